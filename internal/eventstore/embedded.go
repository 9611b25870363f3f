package eventstore

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pasban/internal/durable"
)

const (
	// embeddedMaxEvent is what the engine of the node takes of one event: its
	// blocks hold 2 MiB.
	embeddedMaxEvent = 1900 << 10
	// flushEvery is how long the engine holds what it took in memory only, unless
	// it is told otherwise. A crash loses nothing by it: feeds add it again.
	flushEvery = 5 * time.Second
	// showAfter is how long what was added may wait for more, before all of it is
	// made ready to be found: each time makes a part that is merged later.
	showAfter = 250 * time.Millisecond
	// minFree keeps the engine from filling the disk, which the node needs as well.
	minFree = 128 << 20
	// stopTime is how long the engine may take to write what it holds.
	stopTime = 30 * time.Second
	// setAsideAfter is how often the engine may fail over one day's files before
	// that day is set aside.
	setAsideAfter = 2
	// maxSocket is the longest path that a Unix socket can have on every system.
	maxSocket = 100
)

// storeDir, socketName and damagedDir lie in the directory of events.
const (
	storeDir   = "store"
	socketName = "engine.sock"
	damagedDir = "damaged"
)

// EmbeddedOptions are what an embedded store needs.
type EmbeddedOptions struct {
	Dir     string   // of this store alone; made with mode 0700
	Command []string // what runs package engine: its own arguments follow
	Tenant  Tenant
	Window  *Window
	MinFree int64         // bytes on the disk below which nothing is taken; 0 is 128 MiB
	Flush   time.Duration // how often the engine writes to disk, at least 1s; 0 is every 5s
	Log     *slog.Logger  // nil is slog.Default()
}

// Embedded is a Store whose engine is a process of the node's own, started
// again when it ends. While it is not there, its methods return Unavailable.
type Embedded struct {
	*Client
	opt     EmbeddedOptions
	log     *slog.Logger
	socket  string
	showing atomic.Bool   // what was added is about to be made ready
	epoch   atomic.Uint64 // changes when the engine starts and when it ends
	stop    context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex    // covers what follows
	ready   chan struct{} // closed while the engine answers
	problem string        // why it does not; "" if it does, or is being started
	faults  map[string]int
	aside   []string // days that were set aside
}

var _ Store = (*Embedded)(nil)

// OpenEmbedded makes the directory and starts the engine. It does not wait for
// it: a large store takes time to open, and a node does not wait for its events.
func OpenEmbedded(o EmbeddedOptions) (*Embedded, error) {
	if len(o.Command) == 0 {
		return nil, errors.New("no command for the event engine")
	}
	o.Flush = cmp.Or(o.Flush, flushEvery)
	o.MinFree = cmp.Or(o.MinFree, minFree)
	for _, dir := range []string{o.Dir, filepath.Join(o.Dir, storeDir)} {
		if err := durable.MkdirAll(dir, durable.DirMode); err != nil {
			return nil, err
		}
		if err := durable.CheckMode(dir); err != nil {
			return nil, err
		}
	}
	e := &Embedded{opt: o, log: o.Log, socket: filepath.Join(o.Dir, socketName), ready: make(chan struct{}), done: make(chan struct{}), faults: map[string]int{}}
	if e.log == nil {
		e.log = slog.Default()
	}
	if len(e.socket) > maxSocket {
		dir, err := os.MkdirTemp("", "pasban-events-")
		if err != nil {
			return nil, err
		}
		e.socket = filepath.Join(dir, socketName)
	}
	if des, err := os.ReadDir(filepath.Join(o.Dir, damagedDir)); err == nil {
		for _, de := range des {
			e.aside = append(e.aside, de.Name())
		}
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
	}, MaxIdleConns: 2 * together, MaxIdleConnsPerHost: 2 * together, ResponseHeaderTimeout: insertTime}
	e.Client = newClient(url.URL{Scheme: "http", Host: "engine"}, embeddedMaxEvent, transport, o.Tenant, o.Window)
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	go e.supervise(ctx)
	return e, nil
}

// supervise runs the engine until ctx is done.
func (e *Embedded) supervise(ctx context.Context) {
	defer close(e.done)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 30*time.Second) {
		began := time.Now()
		err := e.run(ctx)
		e.epoch.Add(1) // at once: until it is started again nothing counts as written
		e.mu.Lock()
		select {
		case <-e.ready:
			e.ready = make(chan struct{})
		default:
		}
		if ctx.Err() == nil {
			e.problem = fmt.Sprintf("the event engine ended and is started again: %v", err)
		}
		e.mu.Unlock()
		if ctx.Err() != nil {
			if err != nil {
				e.log.Error("the event engine did not stop well", "err", err)
			}
			return
		}
		e.log.Error("the event engine ended", "err", err, "again_in", pause.String())
		if e.setAside(err) || time.Since(began) > time.Minute {
			pause = 100 * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// run starts the engine and returns when it has ended. When ctx is done the
// engine is asked to end, and made to if it takes too long.
func (e *Embedded) run(ctx context.Context) error {
	args := append(slices.Clone(e.opt.Command[1:]), e.socket,
		"-storageDataPath="+filepath.Join(e.opt.Dir, storeDir),
		// Days are deleted by Retain, when they are in the archive.
		"-retentionPeriod=100y", "-futureRetention=3d",
		"-inmemoryDataFlushInterval="+e.opt.Flush.String(),
		"-storage.minFreeDiskSpaceBytes="+strconv.FormatInt(e.opt.MinFree, 10),
		"-insert.maxLineSizeBytes="+strconv.Itoa(2<<20), "-defaultMsgValue="+noMessage,
		"-memory.allowedPercent=25", "-loggerFormat=json", "-loggerMaxArgLen=200", "-loggerLevel=WARN")
	cmd := exec.Command(e.opt.Command[0], args...)
	cmd.Env = append(os.Environ(), engineEnv+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	e.epoch.Add(1)
	var words sync.WaitGroup
	var last string
	words.Go(func() { last = e.listen(stderr) })
	words.Go(func() {
		if line, _ := bufio.NewReader(stdout).ReadString('\n'); line == "ready\n" {
			e.mu.Lock()
			close(e.ready)
			e.problem = ""
			e.mu.Unlock()
		}
		io.Copy(io.Discard, stdout)
	})
	ended := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			stdin.Close()
			select {
			case <-ended:
			case <-time.After(stopTime):
				cmd.Process.Kill()
			}
		case <-ended:
		}
	}()
	words.Wait() // both pipes are at their end
	err = cmd.Wait()
	close(ended)
	if err != nil && last != "" {
		return fmt.Errorf("%w: %s", err, last)
	}
	return err
}

// engineEnv marks the engine's process. A command that does not know what it is
// asked for could start another node: it would not come far.
const engineEnv = "PASBAN_EVENT_ENGINE"

// InEngine reports whether this process was started as an engine.
func InEngine() bool { return os.Getenv(engineEnv) != "" }

// listen passes the engine's warnings on and returns the last thing it said of
// why it ended.
func (e *Embedded) listen(r io.Reader) (last string) {
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadString('\n')
		var line struct{ Level, Caller, Msg string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg != "" {
			if line.Level == "panic" || line.Level == "fatal" {
				last = brief(line.Msg)
			}
			e.log.Warn("event engine", "level", line.Level, "msg", brief(line.Msg))
		} else if strings.HasPrefix(text, "panic: ") && last == "" || strings.HasPrefix(text, "fatal error: ") {
			last = brief(strings.TrimSpace(text))
		}
		if err != nil {
			return last
		}
	}
}

// subject is the request that the engine says its words are about: its parameters
// hold the query, and a query can name people.
var subject = regexp.MustCompile(`(requestURI: "?[^?; ]*)\?[^; ]*`)

// brief leaves out of the engine's words what may be of an event or of a query.
func brief(msg string) string {
	msg = subject.ReplaceAllString(msg, "$1")
	for _, at := range []string{"; log entry", "; line contents", "; the line snippet", "query ["} {
		msg, _, _ = strings.Cut(msg, at)
	}
	if len(msg) > 400 {
		msg = msg[:400] + "…"
	}
	return msg
}

var (
	dayInPath = regexp.MustCompile(`partitions/([0-9]{8})(?:/|\b)`)
	// machine is what stops the engine without a file being damaged.
	machine = regexp.MustCompile(`(?i)no space left|quota exceeded|too many open files|permission denied|cannot allocate memory|read-only file system|input/output error|FlockFile|lock file`)
)

// setAside moves a day's files away if the engine failed over them again: the
// other days can be served. It reports whether it did.
func (e *Embedded) setAside(cause error) bool {
	if cause == nil || machine.MatchString(cause.Error()) {
		return false
	}
	m := dayInPath.FindStringSubmatch(cause.Error())
	if m == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.faults[m[1]]++; e.faults[m[1]] < setAsideAfter {
		return false
	}
	delete(e.faults, m[1])
	to := filepath.Join(e.opt.Dir, damagedDir)
	if err := durable.MkdirAll(to, durable.DirMode); err != nil {
		e.log.Error("a damaged day of events is not set aside", "day", m[1], "err", err)
		return false
	}
	name := m[1]
	for n := 2; ; n++ {
		if _, err := os.Lstat(filepath.Join(to, name)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s-%d", m[1], n)
	}
	if err := os.Rename(filepath.Join(e.opt.Dir, storeDir, "partitions", m[1]), filepath.Join(to, name)); err != nil {
		e.log.Error("a damaged day of events is not set aside", "day", m[1], "err", err)
		return false
	}
	e.aside = append(e.aside, name)
	e.log.Error("a day of events is damaged and was set aside", "day", m[1], "in", filepath.Join(to, name), "err", cause)
	return true
}

// Ready waits until the engine answers, or ctx is done.
func (e *Embedded) Ready(ctx context.Context) error {
	e.mu.Lock()
	ready := e.ready
	e.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Epoch changes when the engine ends and when it starts: what it had not yet
// written to disk may be gone.
func (e *Embedded) Epoch() uint64 { return e.epoch.Load() }

// Settled is after how long what was added is on disk.
func (e *Embedded) Settled() time.Duration { return 3 * e.opt.Flush }

// Healthy says why the engine does not answer, or which days are damaged.
func (e *Embedded) Healthy() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.problem != "" {
		return errors.New(e.problem)
	}
	if len(e.aside) > 0 {
		return fmt.Errorf("damaged days were set aside in %s: %s", filepath.Join(e.opt.Dir, damagedDir), strings.Join(e.aside, ", "))
	}
	return nil
}

// Usage implements Store, from the engine's metrics.
func (e *Embedded) Usage(ctx context.Context) (Usage, error) {
	u, _ := e.Client.Usage(ctx)
	figures, err := e.get(ctx, "/metrics")
	if err != nil {
		return u, unavailable("the event engine does not tell its figures", err)
	}
	u.Events, u.Bytes = 0, 0
	for line := range strings.Lines(string(figures)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil:
		case strings.HasPrefix(name, "vl_storage_rows{"), strings.HasPrefix(name, "vl_pending_rows{type=\"storage\""):
			u.Events += int64(v)
		case strings.HasPrefix(name, "vl_data_size_bytes{"):
			u.Bytes += int64(v)
		}
	}
	return u, nil
}

// Days lists the days that the store holds, oldest first, as YYYYMMDD in UTC.
func (e *Embedded) Days(ctx context.Context) ([]string, error) {
	text, err := e.get(ctx, "/internal/partition/list")
	if err != nil {
		return nil, unavailable("the event engine does not list its days", err)
	}
	var days []string
	if err := json.Unmarshal(text, &days); err != nil {
		return nil, unavailable("the event engine's list of days is not readable", err)
	}
	slices.Sort(days)
	return days, nil
}

// Add implements Store. What was taken is found soon after: the engine by itself
// takes a second.
func (e *Embedded) Add(ctx context.Context, events []Event) error {
	err := e.Client.Add(ctx, events)
	if err == nil && len(events) > 0 && e.showing.CompareAndSwap(false, true) {
		time.AfterFunc(showAfter, func() {
			e.showing.Store(false) // before: what is added meanwhile is shown the next time
			ctx, cancel := context.WithTimeout(context.Background(), insertTime)
			defer cancel()
			if err := e.Flush(ctx); err != nil {
				e.log.Debug("events are shown later", "err", err)
			}
		})
	}
	return err
}

// Flush makes what was taken ready to be found. It is not yet on disk.
func (e *Embedded) Flush(ctx context.Context) error {
	if _, err := e.get(ctx, "/internal/force_flush"); err != nil {
		return unavailable("the event engine does not flush", err)
	}
	return nil
}

// Drop deletes a day.
func (e *Embedded) Drop(ctx context.Context, day string) error {
	resp, err := e.do(ctx, http.MethodPost, "/day/drop", "application/x-www-form-urlencoded", strings.NewReader(url.Values{"day": {day}}.Encode()))
	if err != nil {
		return unavailable("day "+day+" is not deleted", err)
	}
	return resp.Body.Close()
}

func (e *Embedded) get(ctx context.Context, path string) ([]byte, error) {
	resp, err := e.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxLine))
}

// Close has the engine write what it holds and waits for its end.
func (e *Embedded) Close() error {
	e.stop()
	<-e.done
	if dir := filepath.Dir(e.socket); dir != e.opt.Dir {
		os.RemoveAll(dir)
	}
	return e.Client.Close()
}
