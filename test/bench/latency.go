package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/identity"
	"pasban/internal/node"
)

// latencyRun is what was seen of one run.
type latencyRun struct {
	sent
	rules        string        // what installing them said
	wall         time.Duration // of what follows, from the first event until all were seen
	node, engine time.Duration // processor time
	self         time.Duration // of the analyst's two pages
	others       time.Duration // of everything else on the machine
	alerts, hunt []time.Duration
	unseen       [2]int // marks that no alert, or no search, ever showed
	pages        []time.Duration
	cuts         int // of the live table's stream
	figures      map[string]float64
	spool        float64 // bytes that waited for detection, at most
	unkept       float64 // bytes that the store did not have for good, at most
}

// collector is a node that receives logs.
type collector struct {
	*peer
	base, logs, cert, token, root, link string
}

// startCollector runs a node with its own store of events, SigmaHQ's rules and
// one source of Windows events. An analyst has been added.
func startCollector(ctx context.Context, dir string) (_ *collector, rules string, err error) {
	binary, err := buildPasban(ctx, dir)
	if err != nil {
		return nil, "", err
	}
	addrs := make([]string, 3)
	for i := range addrs {
		if addrs[i], err = freeAddr(); err != nil {
			return nil, "", err
		}
	}
	_, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return nil, "", err
	}
	c := &collector{base: "https://localhost:" + port, logs: "https://" + addrs[2] + "/", cert: filepath.Join(dir, "logs.pem"), token: rand.Text(), root: filepath.Join(dir, "data/ca/root.pem")}
	if err := selfSigned(c.cert, filepath.Join(dir, "logs.key")); err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, "pasban.yaml")
	text := strings.NewReplacer("DIR", dir, "LISTEN", addrs[0], "ADMIN", addrs[1], "BASE", c.base, "LOGS", addrs[2], "TOKEN", c.token).Replace(`agency: {id: bench, name: {en: Bench, ur: پیمائش}}
data: DIR/data
listen: LISTEN
admin: ADMIN
identity: {rp: localhost, origins: ["BASE"]}
limits: {rate: {per_second: 1000000, burst: 1000000}}
logs: {sources: [{name: windows, listen: "https://LOGS", cert: DIR/logs.pem, key: DIR/logs.key, token: TOKEN}]}
rules: [DIR/rules]
sites: [{host: "*", upstream: ["http://127.0.0.1:9"], routes: [{match: "/", signin: none}]}]
`)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	installed, err := exec.CommandContext(ctx, binary, "rules", "install", "--to", filepath.Join(dir, "rules"), filepath.Join(testdata(), "sigma/rules.tar.gz")).Output()
	if err != nil {
		return nil, "", fmt.Errorf("install rules: %w", err)
	}
	rules, _, _ = strings.Cut(string(installed), " in ")
	if c.link, err = enrol(ctx, file); err != nil {
		return nil, "", err
	}
	if c.peer, err = start(dir, "collector", exec.Command(binary, "serve", "-c", file)); err != nil {
		return nil, "", err
	}
	c.addr, c.metrics = addrs[0], addrs[1]
	if err := errors.Join(c.await(ctx), c.ready(ctx)); err != nil {
		said, _ := os.ReadFile(filepath.Join(dir, "collector.log"))
		c.stop()
		return nil, "", fmt.Errorf("%w\n%s", err, said)
	}
	return c, rules, nil
}

// enrol adds an analyst and returns the path of their link.
func enrol(ctx context.Context, file string) (string, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return "", err
	}
	people, err := node.OpenPeople(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer people.Close()
	added, err := people.AddPeople(ctx, node.Operator(), identity.NewPerson{Role: pasban.RoleAnalyst, NameEn: "Synthetic Analyst", NameUr: "مصنوعی", Staff: "SOC-1"})
	if err != nil {
		return "", err
	}
	token, _, err := people.Enrol(ctx, node.Operator(), added[0].ID)
	return identity.EnrolPath + token, err
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned(cert, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

// ready waits until the node says that it is.
func (c *collector) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		resp, err := http.Get("http://" + c.metrics + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the node does not get ready: %w", errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// latePatience is how long after the last event marks are looked for.
const latePatience = 30 * time.Second

// runLatency sends, and watches the console meanwhile.
func runLatency(ctx context.Context, dir string, s sending) (r *latencyRun, err error) {
	r = &latencyRun{}
	c, rules, err := startCollector(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	r.rules = rules
	a, err := newAnalyst(ctx, c.base, c.root, c.link)
	if err != nil {
		return nil, err
	}
	s.URL, s.Token, s.Cert = c.logs, c.token, c.cert
	pids, err := tree(c.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	nodeBefore, err := c.cpuOf(pids[0])
	engineBefore, err2 := c.cpuOf(pids[1:]...)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	selfBefore, allBefore, began := ownCPU(), machineCPU(), time.Now()
	alerts, found := &sightings{seen: map[string]time.Time{}}, &sightings{seen: map[string]time.Time{}}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watchers sync.WaitGroup
	var errs [3]error
	watchers.Go(func() { r.cuts, errs[0] = a.live(watching, alerts) })
	watchers.Go(func() { r.pages, errs[1] = a.hunt(watching, found) })
	watchers.Go(func() { errs[2] = r.sample(watching, c.peer) })
	if r.sent, err = s.run(ctx); err != nil {
		return nil, err
	}
	r.await(ctx, alerts, found)
	r.wall, r.self = time.Since(began), ownCPU()-selfBefore
	all := machineCPU() - allBefore
	nodeAfter, err := c.cpuOf(pids[0])
	engineAfter, err2 := c.cpuOf(pids[1:]...)
	stop()
	watchers.Wait()
	r.others = max(0, all-(nodeAfter-nodeBefore)-(engineAfter-engineBefore)-r.self-r.CPU)
	r.node, r.engine = nodeAfter-nodeBefore, engineAfter-engineBefore
	if err := errors.Join(append(errs[:], err, err2)...); err != nil {
		return nil, err
	}
	r.figures, err = c.figures()
	r.alerts, r.unseen[0] = r.after(alerts)
	r.hunt, r.unseen[1] = r.after(found)
	return r, err
}

// run starts the senders' process and waits for its end.
func (s sending) run(ctx context.Context) (got sent, err error) {
	self, err := os.Executable()
	if err != nil {
		return got, err
	}
	arg, err := json.Marshal(s)
	if err != nil {
		return got, err
	}
	cmd := exec.CommandContext(ctx, "nice", "-n", "10", self, "log-senders", string(arg))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return got, fmt.Errorf("the senders: %w", err)
	}
	return got, json.Unmarshal(out.Bytes(), &got)
}

// await waits until every mark was seen twice, or patience is over.
func (r *latencyRun) await(ctx context.Context, seen ...*sightings) {
	ctx, cancel := context.WithTimeout(ctx, latePatience)
	defer cancel()
	for _, s := range seen {
		for s.count() < len(r.Marks) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// sample looks once a second how much waits, until ctx is done.
func (r *latencyRun) sample(ctx context.Context, p *peer) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f, err := p.figures()
			if err != nil {
				return err
			}
			r.spool, r.unkept = max(r.spool, f["pasban_logs_spool_bytes"]), max(r.unkept, f["pasban_events_spool_bytes"])
		}
	}
}

// after is how long each mark took to be seen; one that never was took as long as
// it was looked for.
func (r *latencyRun) after(s *sightings) (took []time.Duration, unseen int) {
	for mark, due := range r.Marks {
		at, ok := s.seen[mark]
		if !ok {
			at = due.Add(r.wall)
			unseen++
		}
		took = append(took, at.Sub(due))
	}
	slices.Sort(took)
	return took, unseen
}

// defaultSending is the pace that is aimed at.
func defaultSending() sending {
	return sending{Machines: 10, Rate: 5000, Batch: 50, Every: 19, Length: 30 * time.Second}
}

// latency sends at another pace and prints what was seen.
func latency(args []string) error {
	s := defaultSending()
	fs := flag.NewFlagSet("latency", flag.ContinueOnError)
	fs.IntVar(&s.Rate, "rate", s.Rate, "events a second")
	fs.IntVar(&s.Batch, "batch", s.Batch, "events of one request")
	fs.IntVar(&s.Machines, "machines", s.Machines, "connections that they come over")
	fs.DurationVar(&s.Length, "length", s.Length, "for how long")
	if err := fs.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pasban-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := runLatency(context.Background(), dir, s)
	if err == nil {
		fmt.Print(r.table(s))
	}
	return err
}

// latencySection writes what was found.
func latencySection(ctx context.Context, dir string) (section, error) {
	s := defaultSending()
	load := busy()
	r, err := runLatency(ctx, dir, s)
	if err != nil {
		return section{}, err
	}
	return section{"From a sender to the console", fmt.Sprintf("%d machines send OTRF's Windows events as JSON over HTTPS, %d events a second together, in requests of %d, for %v; every copy has identifiers, numbers and times of its own. The node is `pasban serve` with its store of events in a process of its own, journal and ledger on disk, and SigmaHQ's whole collection as `pasban rules install` installs it (%s); each answer waits until the events are on stable storage. Every %dth request ends with an event of a computer of its own that a rule knows. An analyst is signed in: one page follows the overview's live table; the other asks for the hunting page with those events (rows, chart, fields) %v after each answer, which is part of the time. Counted is from when a request was due until the row of the alert, or the whole page with the event, has come. Node, engine, senders at a lower priority, and the analyst share the same %d processors. %s; %s, %s/%s%s, one run from the node's start on.\n\n`go run ./test/bench -only latency`\n\n%s",
		s.Machines, s.Rate, s.Batch, s.Length, r.rules, s.Every, huntPause, runtime.NumCPU(), today(), runtime.Version(), runtime.GOOS, runtime.GOARCH, load, r.table(s))}, nil
}

// at is a quantile of sorted durations.
func at(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	return took[min(len(took)-1, int(float64(len(took))*q))].Round(time.Millisecond)
}

func (r *latencyRun) table(s sending) string {
	var b strings.Builder
	b.WriteString("| what | figure | aim | holds |\n|---|---|---|---|\n")
	aimed := func(what string, got float64, unit string, least bool, limit float64) {
		b.WriteString(bar{what, spreadOf([]float64{got}), least, limit, unit}.String())
	}
	told := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |  |  |\n", what, fmt.Sprintf(format, args...))
	}
	f, each := r.figures, func(d time.Duration) float64 { return d.Seconds() / r.wall.Seconds() }
	aimed("events taken a second", float64(r.Events)/r.Wall.Seconds(), "", true, float64(s.Rate)*0.99)
	told("taken, matched, kept", "%d, %.0f, %.0f", r.Events, f[`pasban_logs_events_total{source="windows"}`], f[`pasban_events_added_total{feed="logs"}`])
	told("requests answered with 503, entries that could not be read, bytes lost to the store", "%d, %.0f, %.0f", r.Refused, f[`pasban_logs_refused_total{source="windows"}`], f["pasban_events_lost_bytes_total"])
	told("a request was sent too late by, at most", "%v", r.Behind.Round(time.Millisecond))
	told("alerts of marked events: p50, max", "%v, %v", at(r.alerts, 0.5), at(r.alerts, 1))
	aimed(fmt.Sprintf("the same: p99 of %d, in s", len(r.alerts)), at(r.alerts, 0.99).Seconds(), " s", false, 2)
	told("marked events on the hunting page: p50, max", "%v, %v", at(r.hunt, 0.5), at(r.hunt, 1))
	aimed(fmt.Sprintf("the same: p99 of %d, in s", len(r.hunt)), at(r.hunt, 0.99).Seconds(), " s", false, 2)
	told("marked events never seen as an alert, on the hunting page", "%d, %d", r.unseen[0], r.unseen[1])
	slices.Sort(r.pages)
	told(fmt.Sprintf("the hunting page itself, of %d: p50, p99", len(r.pages)), "%v, %v", at(r.pages, 0.5), at(r.pages, 0.99))
	told("the live table's stream ended before its time", "%d times", r.cuts)
	told("waiting at most: for detection, until the store has it for good, in MiB", "%.1f, %.1f", r.spool/(1<<20), r.unkept/(1<<20))
	told("processor-seconds a second: node, engine, together", "%.2f, %.2f, %.2f", each(r.node), each(r.engine), each(r.node+r.engine))
	told("the same of senders and of the analyst's two pages", "%.2f, %.2f", r.CPU.Seconds()/r.Wall.Seconds(), each(r.self))
	told(fmt.Sprintf("what other work on the machine took meanwhile, of %d", runtime.NumCPU()), "%.2f", each(r.others))
	return b.String()
}

// machineCPU is the processor time of everything on the machine, 0 if nobody
// counts it.
func machineCPU() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	f := strings.Fields(string(text))
	if len(f) < 9 || f[0] != "cpu" {
		return 0
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // not idle, and not waiting for disks
		n, _ := strconv.ParseInt(f[i], 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100)
}
