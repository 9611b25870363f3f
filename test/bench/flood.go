package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pasban/internal/gateway/pass"
)

// scenario is one flood: who comes, how fast, and what the service can do.
type scenario struct {
	addresses int           // that the flood comes from
	rate      float64       // requests a second of all of them together
	returning int           // visitors who were there before, each once a second
	fresh     int           // new visitors with scripts, and as many without
	before    time.Duration // how long returning visitors come before the flood
	length    time.Duration // of the flood
	slots     int           // requests that the service works on at once
	work      time.Duration // for each
	waf       bool
	start     string // hand or auto
}

// defaultScenario is ten times what the service can answer, from 2,000
// addresses.
func defaultScenario() scenario {
	return scenario{addresses: 2000, rate: 2000, returning: 50, fresh: 20, before: 65 * time.Second, length: 2 * time.Minute,
		slots: 4, work: 20 * time.Millisecond, waf: true, start: "auto"}
}

// flood plays a scenario against a gateway in a process of its own and prints
// what became of everybody.
func flood(args []string) error {
	sc := defaultScenario()
	fs := flag.NewFlagSet("flood", flag.ContinueOnError)
	fs.IntVar(&sc.addresses, "addresses", sc.addresses, "source addresses of the flood (127.1.x.y)")
	fs.Float64Var(&sc.rate, "rate", sc.rate, "requests a second of the flood; the service can answer 200")
	fs.IntVar(&sc.returning, "returning", sc.returning, "returning visitors, one request a second each")
	fs.IntVar(&sc.fresh, "fresh", sc.fresh, "new visitors with scripts, and as many without")
	fs.DurationVar(&sc.before, "before", sc.before, "time before the flood: a pass takes a little more than a minute to earn")
	fs.DurationVar(&sc.length, "length", sc.length, "length of the flood")
	fs.BoolVar(&sc.waf, "waf", sc.waf, "the firewall is on")
	fs.StringVar(&sc.start, "start", sc.start, "attack mode starts by hand (with the flood) or auto")
	if err := fs.Parse(args); err != nil {
		return err
	}
	r, err := sc.run()
	if err == nil {
		fmt.Print(r.table())
	}
	return err
}

func (sc scenario) run() (*result, error) {
	svc := &service{slots: make(chan struct{}, sc.slots), work: sc.work}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	upstream := &http.Server{Handler: svc}
	go upstream.Serve(ln)
	defer upstream.Close()
	gw, err := startGateway("http://"+ln.Addr().String(), sc)
	if err != nil {
		return nil, err
	}
	defer gw.stop()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var quiet, loud, later tally
	var people sync.WaitGroup
	during := &atomic.Pointer[tally]{}
	during.Store(&quiet)
	for i := range sc.returning {
		v := newVisitor(gw.address, fmt.Sprintf("127.2.%d.1", i+1))
		people.Go(func() { v.keepComing(ctx, during) })
	}
	fmt.Fprintf(os.Stderr, "%s without a flood\n", sc.before)
	idle := gw.cpu()
	time.Sleep(sc.before)
	each := (gw.cpu() - idle).Seconds() / float64(max(quiet.count(), 1)) // for a person's request, without a flood

	fmt.Fprintf(os.Stderr, "%s of flood\n", sc.length)
	if sc.start == "hand" {
		if err := gw.attack(); err != nil {
			return nil, err
		}
	}
	during.Store(&loud)
	svc.reset()
	cpu := gw.cpu()
	stop, end := context.WithTimeout(ctx, sc.length)
	defer end()
	crowd, err := sc.startBots(gw.address)
	if err != nil {
		return nil, err
	}
	var fresh sync.WaitGroup
	var scripted, plain arrivals
	people.Go(func() {
		wait(stop, 3*time.Second)
		loud.also.Store(&later)
	})
	for i := range 2 * sc.fresh {
		v, came := newVisitor(gw.address, fmt.Sprintf("127.3.%d.1", i+1)), &scripted
		if i%2 == 1 {
			v.plain, came = true, &plain
		}
		time.Sleep(100 * time.Millisecond)
		fresh.Go(func() { came.add(v.arrive(stop)) })
	}
	fresh.Wait()
	got, err := crowd()
	if err != nil {
		return nil, err
	}
	used := gw.cpu() - cpu
	cancel()
	people.Wait()

	return &result{sc, got, &quiet, &loud, &later, &scripted, &plain, svc.good.Load(), svc.all.Load(), used, each}, nil
}

// result is what became of everybody.
type result struct {
	sc                 scenario
	got                botCounts
	quiet, loud, later *tally
	scripted, plain    *arrivals
	good, all          int64         // requests that the service worked on: people's, and all
	used               time.Duration // of a processor, by the gateway during the flood
	each               float64       // seconds of it for a person's request without one
}

// table shows it, with what is aimed at.
func (r *result) table() string {
	var b strings.Builder
	b.WriteString("| what | figure | aim | holds |\n|---|---|---|---|\n")
	aimed := func(what string, got float64, unit string, least bool, limit float64) {
		b.WriteString(bar{what, spreadOf([]float64{got}), least, limit, unit}.String())
	}
	told := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |  |  |\n", what, fmt.Sprintf(format, args...))
	}
	told("requests of the flood: sent, turned away, answered by the service, failed", "%d, %d, %d, %d", r.got.Sent, r.got.Shed, r.got.Through, r.got.Failed)
	aimed(fmt.Sprintf("returning visitors answered, of %d requests, in per cent", r.loud.count()), r.loud.share(), "", true, 99)
	told("their p50 before the flood, during it", "%s, %s", r.quiet.quantile(0.5), r.loud.quantile(0.5))
	told("their p99 before the flood, during it, and after its first three seconds", "%s, %s, %s", r.quiet.p99(), r.loud.p99(), r.later.p99())
	aimed("their p99 during the flood against before", float64(r.loud.p99())/float64(r.quiet.p99()), "×", false, 3)
	aimed("new visitors in within 30 s, with scripts, in per cent", r.scripted.share(), "", true, 95)
	told("how long that took, 1.5 s of it for the work on a cheap phone", "%s", r.scripted)
	aimed("new visitors in within 30 s, without scripts, in per cent", r.plain.share(), "", true, 95)
	told("how long that took", "%s", r.plain)
	aimed(fmt.Sprintf("of the service's %d requests, people's, in per cent", r.all), 100*float64(r.good)/float64(max(r.all, 1)), "", true, 95)
	rest := r.used.Seconds() - r.each*float64(r.good)
	aimed("the gateway's processor time for each request that it turned away, in ms", 1e3*rest/float64(max(r.got.Shed, 1)), "", false, 0.1)
	told("the same with its work for people, and what each of their requests takes, in ms", "%.3f, %.2f", 1e3*r.used.Seconds()/float64(max(r.got.Shed, 1)), 1e3*r.each)
	return b.String()
}

// floodSections plays the flood and runs the benchmarks of attacks on
// connections, once each.
func floodSections(dir string) ([]section, error) {
	r, err := defaultScenario().run()
	if err != nil {
		return nil, err
	}
	done := []section{{"A flood", fmt.Sprintf("2,000 addresses (127.1.x.y) send 2,000 requests a second for two minutes, each once a second, to a service that can answer 200. The firewall is on; attack mode starts by itself. 50 returning visitors come once a second before and during it; 40 new ones come at its beginning, half of them without scripts. Gateway, flood and people are processes on the same %d processors, the flood's at a lower priority. %s, one run.\n\n`go run ./test/bench -only flood`\n\n%s", runtime.NumCPU(), today(), r.table())}}
	list, seen := connectionTables(), map[string]map[string][]float64{}
	binary := filepath.Join(dir, "gateway.test")
	if text, err := exec.Command("go", "test", "-c", "-o", binary, list[0].pkg).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", list[0].pkg, err, text)
	}
	for _, t := range list {
		for _, name := range names(t) {
			fmt.Fprintln(os.Stderr, name)
			if err := measure(binary, t.pkg, name, "1x", seen); err != nil {
				return nil, err
			}
		}
	}
	return append(done, packageSections(list, seen, 1, "one attack", busy())...), nil
}

// connectionTables are attacks below requests.
func connectionTables() []table {
	slow := table{title: "Slow clients", pkg: "./internal/gateway",
		says: "2,000 connections from as many addresses open within four seconds and then send a line of a header or of a body, or read 32 bytes, once a second. Aimed at: all are closed 10 s after the last one came, and no request of an honest client fails meanwhile."}
	for _, kind := range []string{"header", "body", "read"} {
		name := "BenchmarkSlowClients/" + kind
		slow.rows = append(slow.rows, row{"slow " + kind + ": all closed after", name, "", "all-closed-s"},
			row{"slow " + kind + ": open at once", name, "", "most-open"}, row{"slow " + kind + ": honest requests", name, "", "good-asked"},
			row{"slow " + kind + ": of them failed", name, "", "good-failed"}, row{"slow " + kind + ": the slowest of them", name, "", "good-slowest-ms"})
	}
	h2 := table{title: "Floods of HTTP/2 frames", pkg: "./internal/gateway",
		says: "Two clients, processes of their own, open and reset streams, or send SETTINGS or PING frames, as fast as they are let, for ten seconds, and come again when they are closed. The cores are the gateway's, with the requests of an honest client in them. Aimed at: 0.15 cores, no honest request failed."}
	for _, kind := range []string{"rapid reset", "settings", "ping"} {
		name := "BenchmarkH2Floods/" + strings.ReplaceAll(kind, " ", "-")
		h2.rows = append(h2.rows, row{kind + ": processors", name, "", "cores"}, row{kind + ": honest requests failed", name, "", "good-failed"},
			row{kind + ": the slowest of them", name, "", "good-slowest-ms"})
	}
	return []table{slow, h2}
}

// service is the guarded service: it can work on few requests at once, and has
// the others wait.
type service struct {
	slots     chan struct{}
	work      time.Duration
	good, all atomic.Int64
}

func (s *service) reset() { s.good.Store(0); s.all.Store(0) }

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.slots <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	time.Sleep(s.work)
	<-s.slots
	s.all.Add(1)
	if r.URL.Query().Get("who") == "person" {
		s.good.Add(1)
	}
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, "<!DOCTYPE html><html lang=en><title>x</title><p>a page of about sixty bytes</p></html>")
}

// clientFrom sends from one address of the loopback network and follows nothing.
func clientFrom(from string, timeout time.Duration) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 2},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// botCounts is what became of the flood's requests.
type botCounts struct{ Sent, Shed, Through, Failed int64 }

// startBots begins the flood in a process of its own and returns what waits
// for its end. It has a lower priority than everybody else: a real flood does
// not share a processor with those whom it keeps away.
func (sc scenario) startBots(gateway string) (func() (botCounts, error), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("nice", "-n", "15", self, "flood-bots", gateway, strconv.Itoa(sc.addresses), fmt.Sprint(sc.rate), sc.length.String())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (got botCounts, err error) {
		if err := cmd.Wait(); err != nil {
			return got, fmt.Errorf("the flood: %w", err)
		}
		return got, json.Unmarshal(out.Bytes(), &got)
	}, nil
}

// floodBots is the process of the flood: args are the gateway's address, how
// many addresses, requests a second and for how long.
func floodBots(args []string) error {
	if len(args) != 4 {
		return errors.New("flood-bots is started by flood")
	}
	addresses, err := strconv.Atoi(args[1])
	rate, err2 := strconv.ParseFloat(args[2], 64)
	length, err3 := time.ParseDuration(args[3])
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	sc := scenario{addresses: addresses, rate: rate}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var bots sync.WaitGroup
	var sent, shed, through, failed atomic.Int64
	for i := range addresses {
		bots.Go(func() {
			sc.bot(ctx, args[0], fmt.Sprintf("127.1.%d.%d", i/250, i%250+1), &sent, &shed, &through, &failed)
		})
	}
	bots.Wait()
	return json.NewEncoder(os.Stdout).Encode(botCounts{sent.Load(), shed.Load(), through.Load(), failed.Load()})
}

// bot is one address of the flood: polite by itself, keeps no cookies.
func (sc scenario) bot(ctx context.Context, gateway, from string, sent, shed, through, failed *atomic.Int64) {
	c := clientFrom(from, 10*time.Second)
	pause := time.Duration(float64(sc.addresses) / sc.rate * float64(time.Second))
	wait(ctx, time.Duration(rand.Int64N(int64(pause))))
	for ctx.Err() == nil {
		began := time.Now()
		r, err := http.NewRequestWithContext(ctx, "GET", gateway+"/records/search?who=bot&n="+strconv.Itoa(rand.IntN(1e6)), nil)
		if err != nil {
			return
		}
		r.Header.Set("Accept", "text/html")
		r.Header.Set("User-Agent", "Mozilla/5.0")
		sent.Add(1)
		res, err := c.Do(r)
		switch {
		case err != nil && ctx.Err() != nil:
			sent.Add(-1)
			return
		case err != nil:
			failed.Add(1)
		default:
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				through.Add(1)
			} else {
				shed.Add(1)
			}
		}
		wait(ctx, pause-time.Since(began))
	}
}

// wait pauses, or less if ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// visitor is a person's browser.
type visitor struct {
	c       *http.Client
	gateway string
	cookies map[string]string
	plain   bool // runs no scripts
}

func newVisitor(gateway, from string) *visitor {
	return &visitor{c: clientFrom(from, 30*time.Second), gateway: gateway, cookies: map[string]string{}}
}

// do sends one request and keeps the cookies of the answer.
func (v *visitor) do(ctx context.Context, method, path string, form url.Values) (status int, to, body string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, v.gateway+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", "", err
	}
	r.Header.Set("Accept", "text/html,application/xhtml+xml")
	r.Header.Set("User-Agent", "Mozilla/5.0")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if form == nil {
		r.Header.Del("Content-Type")
	}
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	res, err := v.c.Do(r)
	if err != nil {
		return 0, "", "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	for _, c := range res.Cookies() {
		if v.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		}
	}
	return res.StatusCode, res.Header.Get("Location"), string(text), err
}

const personPage = "/records/search?who=person&district=lahore"

// keepComing asks for a page once a second.
func (v *visitor) keepComing(ctx context.Context, to *atomic.Pointer[tally]) {
	wait(ctx, time.Duration(rand.Int64N(int64(time.Second))))
	for ctx.Err() == nil {
		began, t := time.Now(), to.Load()
		status, _, _, err := v.do(ctx, "GET", personPage, nil)
		if ctx.Err() == nil {
			t.add(time.Since(began), err == nil && status == http.StatusOK)
		}
		wait(ctx, time.Second-time.Since(began))
	}
}

var (
	challengeField = regexp.MustCompile(`name="challenge" value="([^"]+)"`)
	refreshField   = regexp.MustCompile(`http-equiv="refresh" content="(\d+)"`)
)

// arrive comes for the first time and does what the pages say until the page
// that was asked for is there. It returns how long that took, 0 if it never was.
func (v *visitor) arrive(ctx context.Context) time.Duration {
	began, at := time.Now(), personPage
	for ctx.Err() == nil {
		status, to, body, err := v.do(ctx, "GET", at, nil)
		switch {
		case err != nil:
			wait(ctx, time.Second)
		case status == http.StatusOK && at == personPage:
			return time.Since(began)
		case to != "":
			at = to
		case v.plain:
			seconds := 3 // until a person asks for the page again, if it does not by itself
			if m := refreshField.FindStringSubmatch(body); m != nil {
				seconds, _ = strconv.Atoi(m[1])
			}
			wait(ctx, time.Duration(seconds)*time.Second)
		default:
			m := challengeField.FindStringSubmatch(body)
			if m == nil {
				wait(ctx, time.Second)
				continue
			}
			challenge := html.UnescapeString(m[1])
			wait(ctx, 1500*time.Millisecond) // a cheap phone takes so much longer than we do
			_, to, _, err := v.do(ctx, "POST", at, url.Values{"challenge": {challenge}, "answer": {pass.Work(challenge)}})
			if err == nil && to != "" {
				at = to
			}
		}
	}
	return 0
}

// tally gathers what became of returning visitors' requests.
type tally struct {
	also atomic.Pointer[tally] // gets the same, once it is there
	mu   sync.Mutex
	took []time.Duration // of those that were answered
	all  int
}

func (t *tally) add(d time.Duration, ok bool) {
	if also := t.also.Load(); also != nil {
		also.add(d, ok)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all++
	if ok {
		t.took = append(t.took, d)
	}
}

func (t *tally) count() int { t.mu.Lock(); defer t.mu.Unlock(); return t.all }

func (t *tally) share() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return 100 * float64(len(t.took)) / float64(max(t.all, 1))
}

func (t *tally) p99() time.Duration { return t.quantile(0.99) }

func (t *tally) quantile(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.took) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(t.took))
	return s[min(len(s)-1, int(float64(len(s))*q))].Round(10 * time.Microsecond)
}

// arrivals gathers how long new visitors took.
type arrivals struct {
	mu   sync.Mutex
	took []time.Duration
	all  int
}

func (a *arrivals) add(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all++
	if d > 0 && d <= 30*time.Second {
		a.took = append(a.took, d)
	}
}

func (a *arrivals) share() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return 100 * float64(len(a.took)) / float64(max(a.all, 1))
}

func (a *arrivals) String() string {
	if len(a.took) == 0 {
		return fmt.Sprintf("0 of %d", a.all)
	}
	slices.Sort(a.took)
	return fmt.Sprintf("%d of %d (median %.1f s, last %.1f s)", len(a.took), a.all, a.took[len(a.took)/2].Seconds(), a.took[len(a.took)-1].Seconds())
}

// flooded is the gateway's process.
type flooded struct {
	cmd     *exec.Cmd
	dir     string
	address string // http://…
	control string // where it is told to start attack mode
}

func startGateway(upstream string, sc scenario) (*flooded, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pasban-flood-")
	if err != nil {
		return nil, err
	}
	c := &flooded{dir: dir, cmd: exec.Command(self, "flood-gateway", upstream, dir, strconv.FormatBool(sc.waf), sc.start)}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	var ready struct{ Address, Control string }
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		c.stop()
		return nil, fmt.Errorf("the gateway did not start: %w", err)
	}
	c.address, c.control = ready.Address, ready.Control
	return c, nil
}

func (c *flooded) attack() error {
	res, err := http.Post(c.control, "", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("attack mode: %s", res.Status)
	}
	return nil
}

// cpu is how long the process has run on a processor, user and system.
func (c *flooded) cpu() time.Duration {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.cmd.Process.Pid), "stat"))
	if err != nil {
		return 0
	}
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	user, _ := strconv.Atoi(string(f[11])) // fields 14 and 15 of proc(5), in hundredths of a second
	system, _ := strconv.Atoi(string(f[12]))
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (c *flooded) stop() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	os.RemoveAll(c.dir)
}
