package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/identity"
	"pasban/internal/node"

	"github.com/spf13/cobra"
)

type userDoc struct {
	Schema  string      `json:"schema"`
	ID      string      `json:"id"`
	Role    pasban.Role `json:"role"`
	Name    string      `json:"name,omitempty"`
	NameUr  string      `json:"name_ur,omitempty"`
	Staff   string      `json:"staff,omitempty"`
	Disable bool        `json:"disabled,omitempty"`
	Enrol   string      `json:"enrol_url,omitempty"`
	Expires string      `json:"enrol_expires,omitempty"`
}

func newUserDoc(p identity.Person) userDoc {
	return userDoc{Schema: "pasban.user.v1", ID: p.ID, Role: p.Role, Name: p.NameEn, NameUr: p.NameUr, Staff: p.Staff, Disable: p.Disabled}
}

func (c *cli) userCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "People who may sign in: add, list, enrol, disable",
	}
	cmd.AddCommand(c.userAdd(), c.userList(), c.userEnrol(), c.userDisable())
	return cmd
}

// withPeople runs do on the register of the configured node.
func (c *cli) withPeople(ctx context.Context, do func(*node.People) error) error {
	cfg, err := config.Load(c.config)
	if err != nil {
		return err
	}
	people, err := node.OpenPeople(ctx, cfg, c.logger())
	if err != nil {
		return err
	}
	defer people.Close()
	return do(people)
}

func (c *cli) userAdd() *cobra.Command {
	var p identity.NewPerson
	var role string
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Add a person and print a one-time link with which they make a passkey",
		Long: `add prints a link that works once, for 72 hours: give it to that person alone.
A citizen's CNIC is read from standard input, so that it stays out of the
process list and of the shell's history.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Role = pasban.Role(role)
			if p.Role == pasban.RoleCitizen {
				var err error
				if p.CNIC, err = c.readCNIC(); err != nil {
					return err
				}
			}
			return c.withPeople(cmd.Context(), func(people *node.People) error {
				added, err := people.AddPerson(cmd.Context(), node.Operator(), p)
				if err != nil {
					return err
				}
				return c.printLink(cmd.Context(), people, added)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "officer", "citizen, officer, supervisor, analyst, auditor or admin")
	f.StringVar(&p.ID, "id", "", "the person's `id` in the agency (made from role and staff number without it)")
	f.StringVar(&p.Staff, "staff", "", "staff `number`; required but for citizens")
	f.StringVar(&p.NameEn, "name", "", "name in Latin script")
	f.StringVar(&p.NameUr, "name-ur", "", "name in Urdu")
	return c.withConfig(cmd)
}

// readCNIC asks for a citizen's number on standard input.
func (c *cli) readCNIC() (pasban.CNIC, error) {
	if fi, err := os.Stdin.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprint(c.err, "CNIC: ")
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && line == "" {
		return "", &pasban.Error{Kind: pasban.Invalid, Where: "standard input", Msg: "no CNIC was given", Hint: "write it to standard input, 12345-1234567-1"}
	}
	return pasban.ParseCNIC(line)
}

func (c *cli) printLink(ctx context.Context, people *node.People, p identity.Person) error {
	token, expires, err := people.Enrol(ctx, node.Operator(), p.ID)
	if err != nil {
		return err
	}
	doc := newUserDoc(p)
	doc.Enrol, doc.Expires = people.EnrolURL(token), expires.UTC().Format(time.RFC3339)
	if c.json {
		return c.print(doc)
	}
	fmt.Fprintf(c.out, "%s  %s  %s\n", doc.ID, doc.Role, strings.TrimSpace(doc.Name+" "+doc.NameUr))
	fmt.Fprintf(c.out, "one-time enrolment link, until %s:\n%s\n", doc.Expires, doc.Enrol)
	return nil
}

func (c *cli) userList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List people, by id",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withPeople(cmd.Context(), func(people *node.People) error {
				tw := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
				defer tw.Flush()
				const batch = 500
				for after := ""; ; {
					list, err := people.People(cmd.Context(), after, batch)
					if err != nil {
						return err
					}
					for _, p := range list {
						after = p.ID
						if c.json {
							if err := c.print(newUserDoc(p)); err != nil {
								return err
							}
							continue
						}
						state := "active"
						if p.Disabled {
							state = "disabled"
						}
						fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d passkeys\t%s\n", p.ID, p.Role, p.Staff, state, p.Passkeys, p.NameEn)
					}
					if len(list) < batch {
						return nil
					}
				}
			})
		},
	}
	return c.withConfig(cmd)
}

func (c *cli) userEnrol() *cobra.Command {
	return c.withConfig(&cobra.Command{
		Use:   "enrol ID",
		Short: "Print a new one-time link for someone who lost their passkey",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withPeople(cmd.Context(), func(people *node.People) error {
				p, err := people.Lookup(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.printLink(cmd.Context(), people, p)
			})
		},
	})
}

func (c *cli) userDisable() *cobra.Command {
	return c.withConfig(&cobra.Command{
		Use:   "disable ID",
		Short: "Shut a person out: their sessions end at once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withPeople(cmd.Context(), func(people *node.People) error {
				if err := people.Disable(cmd.Context(), node.Operator(), args[0]); err != nil {
					return err
				}
				p, err := people.Lookup(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if c.json {
					return c.print(newUserDoc(p))
				}
				fmt.Fprintln(c.out, p.ID, "is shut out")
				return nil
			})
		},
	})
}
