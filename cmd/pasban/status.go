package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/node"

	"github.com/spf13/cobra"
)

func (c *cli) statusCmd() *cobra.Command {
	return c.withConfig(&cobra.Command{
		Use:   "status",
		Short: "Ask a running node how it is: problems first, then figures",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(c.config)
			if err != nil {
				return err
			}
			s, err := askStatus(cmd.Context(), cfg.Admin)
			if err != nil {
				return err
			}
			if c.json {
				err = c.print(s)
			} else {
				c.printStatus(s)
			}
			if err == nil && !s.Ready {
				return exitCode(1)
			}
			return err
		},
	})
}

func askStatus(ctx context.Context, admin string) (node.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if host, port, err := net.SplitHostPort(admin); err == nil && (host == "0.0.0.0" || host == "::") {
		admin = net.JoinHostPort("localhost", port)
	}
	unreachable := func(err error) error {
		return &pasban.Error{Kind: pasban.Unavailable, Msg: "the node does not answer", Where: admin, Hint: "is `pasban serve` running?", Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return node.Status{}, unreachable(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return node.Status{}, unreachable(err)
	}
	defer resp.Body.Close()
	var s node.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil || s.Schema != node.StatusSchema {
		return node.Status{}, unreachable(fmt.Errorf("not a node's answer: %s", resp.Status))
	}
	return s, nil
}

func (c *cli) printStatus(s node.Status) {
	for _, p := range s.Parts {
		if !p.OK {
			fmt.Fprintf(c.out, "PROBLEM  %s: %s\n", p.Part, p.Reason)
		}
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(c.out, "WARNING  %s\n", w)
	}
	if s.Ready {
		fmt.Fprintln(c.out, "ready    guarded routes answer")
	} else {
		fmt.Fprintln(c.out, "closed   guarded routes answer 503 until that is mended")
	}
	fmt.Fprintf(c.out, "agency   %s, up since %s\n", s.Agency, s.Started)
	fmt.Fprintf(c.out, "journal  %d facts, %d of them leaves\n", s.Figures.Facts, s.Figures.Leaves)
	fmt.Fprintf(c.out, "ledger   %d leaves under the last checkpoint, %.1f s behind\n", s.Figures.Checkpoint, s.Figures.LagSeconds)
	fmt.Fprintf(c.out, "         in %s, which last answered within %.3f s, %.1f s ago\n", s.Figures.Storage.Where, s.Figures.Storage.AnswerSeconds, s.Figures.Storage.SilentSeconds)
	if w := s.Figures.Witnesses; w != nil {
		printWitnesses(c.out, w)
	}
	for _, cert := range s.Figures.Certificates {
		switch {
		case cert.Problem != "": // told above
		case cert.Warning != "":
			fmt.Fprintf(c.out, "warning  certificate of %s: %s\n", cert.Host, cert.Warning)
		default:
			fmt.Fprintf(c.out, "cert     %s, until %s\n", cert.Host, cert.NotAfter.Format(time.DateOnly))
		}
	}
	for _, level := range []string{"critical", "high", "medium", "low", "informational"} {
		if n := s.Figures.OpenAlerts[level]; n > 0 {
			fmt.Fprintf(c.out, "alerts   %d open, %s\n", n, level)
		}
	}
}

func printWitnesses(out io.Writer, w *node.Witnessing) {
	ago := func(seconds *float64) string {
		if seconds == nil {
			return "not since the start"
		}
		return time.Duration(*seconds*float64(time.Second)).Round(time.Second).String() + " ago"
	}
	fmt.Fprintf(out, "final    %d leaves, cosigned by %d of %d witnesses, %s\n", w.Final, w.Need, len(w.Of), ago(w.FinalSeconds))
	for _, m := range w.Of {
		fmt.Fprintf(out, "witness  %s cosigned %d leaves, %s\n", m.Name, m.Size, ago(m.Seconds))
	}
}
