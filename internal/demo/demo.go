// Package demo plays a story on a whole agency: a node in front of an existing
// land registry, a thousand synthetic citizens, twenty synthetic people in
// office, a working day, and six kinds of trouble.
//
// # Two processes
//
//	pasban demo (parent)                     pasban demo-node (child)
//	  the land registry, on loopback   ◄───    the node, as under serve,
//	  the story: browsers, attackers   ───►    plus persona links
//	  the judge
//
// [Run] is the parent. It writes a configuration into a directory
// ([WriteConfig]), starts the land registry and the child, and then plays the
// beats over real HTTP/2 against the real listener, trusting the node's own
// certificate authority and nothing else. The node is a child so that it can be
// killed with SIGKILL and started again. [Extend] makes the child a demo's node:
// it fills it with the same people ([NewPopulation]), mounts [Personas], links
// that sign their visitor in as somebody, and audits the ledger every second.
// Nothing else differs from a node under serve.
//
// # What it guarantees
//
// Attacks are real: the Core Rule Set's own attack cases, and exploits of two
// holes that are first shown to work on the unguarded application. Whether an
// attack got through is judged by what it brought its author (rows, a stored
// script, a session, records beyond the budget), not by what the node says of
// itself; whether it was detected, by the alerts that an analyst sees. A
// [Summary] that passed means: nothing got through, everything was noticed,
// nobody was refused who had a right, nothing that was acknowledged was lost.
//
// # What it must never do
//
// Take real people for its cast, listen beyond loopback, or let persona links
// into a node that is not a demo's.
package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/examples/landregistry"
	"pasban/internal/durable"
)

// Options say how the story is played.
type Options struct {
	Once     bool   // end after the story; otherwise stay up until ctx ends
	Seed     uint64 // of the population; the same seed, the same people
	Citizens int    // how many; 0 is 1,000, fewer than MinCitizens is refused
	Dir      string // where everything is kept; "" is a new temporary directory
	JSON     bool   // write one Summary as JSON instead of the story

	// Out takes the story, or the JSON document.
	Out io.Writer
	// Node returns the command that runs the node on a demo's directory.
	Node func(dir string) *exec.Cmd
	// Examples holds the folders services, policies and rules.
	Examples fs.FS
}

// MinCitizens is the fewest citizens that the story can be played with.
const MinCitizens = 30

// Run plays the story. The error says why it could not be played to its end;
// how it went is in the Summary, whose Passed decides about success. Without
// Once it then stays up until ctx ends. Nothing that it started is running
// when it returns.
func Run(ctx context.Context, o Options) (Summary, error) {
	o.Citizens = cmp.Or(o.Citizens, 1000)
	if o.Citizens < MinCitizens {
		return Summary{}, &pasban.Error{Kind: pasban.Invalid, Msg: "too few citizens for the story", Where: "--citizens",
			Hint: fmt.Sprintf("at least %d", MinCitizens)}
	}
	temporary := o.Dir == ""
	dir, err := directory(o.Dir)
	if err != nil {
		return Summary{}, err
	}
	if temporary && o.Once {
		defer os.RemoveAll(dir)
	}
	prose := o.Out
	if o.JSON {
		prose = io.Discard
	}
	s := &story{o: o, dir: dir, paper: newPaper(prose), people: NewPopulation(o.Seed, o.Citizens)}
	defer s.close()
	if err := s.open(ctx); err != nil {
		return Summary{}, err
	}
	sum, err := s.play(ctx)
	if err != nil {
		return sum, err
	}
	if o.JSON {
		if err := json.NewEncoder(o.Out).Encode(sum); err != nil {
			return sum, err
		}
	}
	s.paper.summary(sum)
	if !o.Once {
		s.explore()
		<-ctx.Done()
		s.paper.line("\nstopping …")
	}
	return sum, s.close()
}

// directory returns an absolute directory that is there and empty enough: a
// story is played once in a directory.
func directory(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "pasban-demo-")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		return "", &pasban.Error{Kind: pasban.Conflict, Msg: "a story has been played here already", Where: dir,
			Hint: "give a new directory, or remove this one"}
	}
	return dir, nil
}

// story is everything that a beat needs. It belongs to one goroutine; beats
// that start others wait for them.
type story struct {
	o      Options
	dir    string
	paper  *paper
	people Population

	legacy     *landregistry.App
	legacyHTTP *http.Server
	direct     string // the land registry itself, unguarded

	claims   []io.Closer // hold the node's addresses
	node     *process
	net      *network
	verifier note.Verifier
	links    map[string]Link // unused persona links by person
	analyst  *visitor
	host     int // last part of the next visitor's loopback address

	closed bool
}

// open starts everything and waits until the node is ready.
func (s *story) open(ctx context.Context) error {
	listen, err := s.claim("127.0.0.1:8443")
	if err != nil {
		return err
	}
	admin, err := s.claim("127.0.0.1:9443")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	base := "https://localhost:" + port
	s.paper.line("%s", s.paper.style(bold, "Pasban demo: a land-record office under attack"))
	s.paper.say("cast", "%d citizens and %d people in office, all of them synthetic (seed %d)",
		len(s.people.Citizens), len(s.people.Staff), s.o.Seed)
	s.paper.say("stage", "%s", s.dir)
	upstream, err := s.openLegacy(ctx)
	if err != nil {
		return err
	}
	stage := Stage{Base: base, Listen: listen, Admin: admin, Upstream: upstream, OfficerBudget: s.budget()}
	if err := WriteConfig(s.dir, stage, s.o.Examples); err != nil {
		return err
	}
	if err := (Settings{Seed: s.o.Seed, Citizens: s.o.Citizens, Base: base}).write(s.dir); err != nil {
		return err
	}
	started := time.Now()
	s.node = &process{command: s.o.Node, dir: s.dir, logFile: filepath.Join(s.dir, logFile),
		mark: filepath.Join(s.dir, personasFile), admin: "http://" + admin}
	if err := s.node.start(ctx); err != nil {
		return err
	}
	if s.net, err = newNetwork(base, listen, filepath.Join(s.dir, "data", "ca", "root.pem")); err != nil {
		return err
	}
	if err := s.readLinks(); err != nil {
		return err
	}
	vkey, err := os.ReadFile(filepath.Join(s.dir, "data", "ledger", "vkey"))
	if err != nil {
		return fmt.Errorf("read the ledger's key: %w", err)
	}
	if s.verifier, err = note.NewVerifier(trimLine(vkey)); err != nil {
		return fmt.Errorf("read the ledger's key: %w", err)
	}
	s.paper.say("ready", "%s guards the land registry at %s (unsafe on purpose); seeded and started in %s",
		base, upstream, time.Since(started).Round(100*time.Millisecond))
	s.analyst, err = s.signIn(ctx, s.people.With(pasban.RoleAnalyst)[0].ID)
	return err
}

// claim has an address until the story is closed.
func (s *story) claim(preferred string) (string, error) {
	addr, held, err := claim(preferred)
	if err == nil {
		s.claims = append(s.claims, held)
	}
	return addr, err
}

// openLegacy starts the land registry on a loopback port, with its people.
func (s *story) openLegacy(ctx context.Context) (address string, err error) {
	if s.legacy, err = landregistry.New(ctx, landregistry.Options{DSN: filepath.Join(s.dir, legacyFile)}); err != nil {
		return "", err
	}
	if err := s.people.SeedLegacy(ctx, s.legacy); err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.legacyHTTP = &http.Server{Handler: s.legacy, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.legacyHTTP.Serve(l) }() // ends with close; until then requests show whether it works
	s.direct = "http://" + l.Addr().String()
	return s.direct, nil
}

// readLinks reads the persona links that the node wrote when it started.
func (s *story) readLinks() error {
	data, err := os.ReadFile(filepath.Join(s.dir, personasFile))
	if err != nil {
		return fmt.Errorf("read the persona links: %w", err)
	}
	var file linksFile
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("read the persona links: %w", err)
	}
	if file.Error != "" {
		return errors.New(file.Error)
	}
	s.links = map[string]Link{}
	for _, l := range file.Personas {
		s.links[l.Person] = l
	}
	return nil
}

// play plays all beats, in order. A beat that could not be played to its end
// ends the story.
func (s *story) play(ctx context.Context) (Summary, error) {
	sum := Summary{Schema: Schema, Seed: s.o.Seed, Citizens: s.o.Citizens, Passed: true, Beats: []Beat{}}
	began := time.Now()
	for i, scene := range scenes() {
		b := Beat{Name: scene.name, Title: scene.title, Alerts: []string{}, Failures: []string{}}
		s.paper.heading(i+1, scene.title)
		start := time.Now()
		err := scene.play(s, ctx, &b)
		b.Seconds = time.Since(start).Seconds()
		if ctx.Err() != nil {
			return sum, &pasban.Error{Kind: pasban.Unavailable, Msg: "interrupted before the end of the story", Where: scene.name}
		}
		if err != nil {
			b.fail("%v", err)
		}
		b.judge()
		s.paper.verdict(b)
		sum.Passed = sum.Passed && b.Passed
		sum.Beats = append(sum.Beats, b)
		sum.Seconds = time.Since(began).Seconds()
		if err != nil {
			return sum, fmt.Errorf("beat %s: %w", scene.name, err)
		}
	}
	return sum, nil
}

// scene is a beat before it is played.
type scene struct {
	name, title string
	play        func(*story, context.Context, *Beat) error
}

func scenes() []scene {
	return []scene{
		{"working-day", "Citizens and officers at work", (*story).workingDay},
		{"sql-injection", "An SQL injection campaign", (*story).sqlInjection},
		{"cross-site-scripting", "A cross-site scripting campaign", (*story).crossSiteScripting},
		{"credential-stuffing", "Credential stuffing", (*story).credentialStuffing},
		{"bulk-lookup", "An officer walks through records", (*story).bulkLookup},
		{"ledger-tampering", "Someone edits the ledger's files", (*story).ledgerTampering},
		{"power-cut", "The node is killed under load", (*story).powerCut},
	}
}

// explore tells where to look after the story.
func (s *story) explore() {
	p := s.paper
	p.line("\n%s", p.style(bold, "Look around"))
	p.say("portal", "%s/en/ and %s/ur/", s.net.base, s.net.base)
	p.say("desk", "%s/desk", s.net.base)
	p.say("console", "%s/soc", s.net.base)
	p.say("trust", "%s/trust, ledger at %s/ledger/checkpoint", s.net.base, s.net.base)
	p.say("site", "%s/records/search, the guarded land registry; unguarded it is at %s", s.net.base, s.direct)
	p.say("trust it", "the node's own certificate authority: %s", filepath.Join(s.dir, "data", "ca", "root.pem"))
	for _, role := range []pasban.Role{pasban.RoleCitizen, pasban.RoleOfficer, pasban.RoleSupervisor, pasban.RoleAnalyst} {
		if l, ok := s.spare(role); ok {
			p.say(string(role), "%s (synthetic), once: %s", l.Name, l.URL)
		}
	}
	p.say("more", "persona links of everybody: %s", filepath.Join(s.dir, personasFile))
	p.say("stop", "Ctrl-C")
}

// spare returns an unused link of somebody with the role.
func (s *story) spare(role pasban.Role) (Link, bool) {
	if role == pasban.RoleCitizen { // one with entries to read
		l, ok := s.links[s.people.Citizens[0].ID]
		return l, ok
	}
	for _, who := range s.people.With(role) {
		if l, ok := s.links[who.ID]; ok {
			return l, true
		}
	}
	return Link{}, false
}

// close stops everything that open started. It may be called again.
func (s *story) close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if s.analyst != nil {
		s.analyst.close()
	}
	if s.node != nil {
		errs = append(errs, s.node.stop())
	}
	if s.legacyHTTP != nil {
		errs = append(errs, s.legacyHTTP.Close())
	}
	if s.legacy != nil {
		errs = append(errs, s.legacy.Close())
	}
	for _, c := range s.claims {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
