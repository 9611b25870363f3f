package demo

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
)

// budget is how many different citizens an officer of the demo may look at in
// an hour, and beyond how many records the dishonest one tries to open besides.
func (s *story) budget() int { return min(40, len(s.people.Citizens)/2) }
func (s *story) beyond() int { return s.budget() }

// bulkLookup has an officer open one record after the other. What the budget
// allows looks like work and is let through; everything after it is the attack.
func (s *story) bulkLookup(ctx context.Context, b *Beat) error {
	start := time.Now()
	officer, err := s.atWork(ctx, s.people.With(pasban.RoleOfficer)[officers-1], "mutation", "SYN-MUT-900")
	if err != nil {
		return err
	}
	defer officer.close()
	budget, all := s.budget(), s.people.Citizens
	s.paper.say("tried", "%s opens citizens' records one after the other: the first %d are what the role's budget allows in an hour, the next %d are not",
		officer.who, budget, s.beyond())
	var traces []trace
	opened := 0
	for _, c := range all[len(all)-budget-s.beyond():] {
		a, err := officer.get(ctx, "/records/"+string(c.CNIC), wantJSON)
		if err != nil {
			return err
		}
		shown := s.peopleIn(a.Body) > 0 && a.ok()
		if shown {
			opened++
		}
		if b.Requests < budget {
			b.legitimate(a, nil, "a record within the budget")
			continue
		}
		b.Tried++
		if shown {
			b.fail("a record beyond the budget was shown")
			continue
		}
		b.Blocked++
		if id := a.incident(); id != "" {
			traces = append(traces, trace{officer, id})
		}
	}
	s.paper.say("pasban", "%d records opened, each with a promise in the citizen's name; %d refused; nothing of them shown", opened, b.Blocked)
	return s.detection(ctx, b, start, traces, "bulk look-ups", "budget used up")
}

// ledgerTampering changes one leaf in the ledger's files, as somebody would
// who got at the disk and wants a look forgotten.
func (s *story) ledgerTampering(ctx context.Context, b *Beat) error {
	start := time.Now()
	dir := filepath.Join(s.dir, "data", "ledger")
	signed, err := os.ReadFile(filepath.Join(dir, tiles.Checkpoint))
	if err != nil {
		return err
	}
	checkpoint, err := pasban.OpenCheckpoint(signed, s.verifier)
	if err != nil {
		return err
	}
	// The oldest leaves, as far as the checkpoint covers them.
	name := tiles.Path(tlog.Tile{L: tiles.Entries, W: int(min(checkpoint.N, tiles.Width))})
	bundle := filepath.Join(dir, name)
	original, err := os.ReadFile(bundle)
	if err != nil {
		return err
	}
	forged := bytes.Clone(original)
	forged[len(forged)-1] ^= 0x01
	b.Tried = 1
	s.paper.say("tried", "one bit of one leaf changed in data/ledger/%s, behind the node's back", name)
	if err := overwrite(bundle, forged); err != nil {
		return err
	}
	named, err := auditCopy(ctx, dir, checkpoint.Tree, name, forged)
	if err != nil {
		return err
	}
	if named == "" {
		b.fail("the offline verifier did not find the edited file")
	} else {
		s.paper.say("verifier", "needs nothing of the node, and finds %s", named)
		b.Blocked = 1
	}
	if err := s.awaitRepair(ctx, bundle, original); err != nil {
		b.fail("%v", err)
	}
	s.paper.say("pasban", "its own audit named the file, raised an alarm, and wrote it anew from the journal, which the checkpoints commit to")
	return s.detection(ctx, b, start, []trace{{}}, "ledger tampered")
}

// overwrite changes a file in place, whatever its mode says, as root would.
func overwrite(name string, data []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	return os.Chmod(name, info.Mode().Perm())
}

// tampered is a ledger's directory in which one file reads as it was forged,
// however soon the node repairs it.
type tampered struct {
	tiles.Dir
	name string
	data []byte
}

// ReadFile implements tiles.Source.
func (t tampered) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if name == t.name {
		return t.data, nil
	}
	return t.Dir.ReadFile(ctx, name)
}

// auditCopy checks a ledger's directory against a signed tree as an outside
// auditor does, with the forged file in place. It returns what it found wrong
// with that file, "" if nothing.
func auditCopy(ctx context.Context, dir string, tree tlog.Tree, name string, forged []byte) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	report, err := tiles.Audit(ctx, tampered{tiles.Dir{Root: root}, name, forged}, tree, nil)
	if err != nil {
		return "", err
	}
	for _, f := range report.Findings {
		if f.Path == name {
			return f.Path + ": " + f.Problem, nil
		}
	}
	return "", nil
}

const repairLimit = 30 * time.Second

func (s *story) awaitRepair(ctx context.Context, name string, want []byte) error {
	deadline := time.Now().Add(repairLimit)
	for {
		if now, err := os.ReadFile(name); err == nil && bytes.Equal(now, want) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the edited file was not repaired within %s", repairLimit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Load while the node is killed.
const (
	loadOfficers = 4
	loadLooks    = 60               // promises that are wanted before the kill
	loadMost     = 15 * time.Second // and how long that may take
)

// word is a promise that somebody was given.
type word struct {
	who     *visitor
	promise pasban.Promise
}

// powerCut kills the node in the middle of load and starts it again: whatever
// it had acknowledged must be there.
func (s *story) powerCut(ctx context.Context, b *Beat) error {
	var crew []*visitor
	for i, who := range s.people.With(pasban.RoleOfficer)[4 : 4+loadOfficers] {
		v, err := s.atWork(ctx, who, "dispute", fmt.Sprintf("SYN-DIS-%d", 300+i))
		if err != nil {
			return err
		}
		defer v.close()
		crew = append(crew, v)
	}
	b.Tried = 1
	s.paper.say("tried", "%d officers at work, somebody watching the health endpoint; then SIGKILL to the node, with nothing said, and a new start on the same data", loadOfficers)
	load := s.load(ctx, crew)
	outage := s.watchHealth(ctx)
	load.await(ctx, loadLooks)
	killed := time.Now()
	if err := s.node.kill(); err != nil {
		return err
	}
	atKill := load.count()
	if err := s.node.start(ctx); err != nil {
		return fmt.Errorf("start again after the kill: %w", err)
	}
	back := time.Since(killed)
	if err := s.readLinks(); err != nil {
		return err
	}
	load.await(ctx, load.count()+loadLooks/2)
	words, failures := load.stop()
	refused := outage()
	for _, f := range failures {
		b.fail("%s", f)
	}
	b.RefusedLegitimate += len(failures)
	b.Requests += len(words) + len(failures)
	lost := 0
	for _, w := range words {
		if _, err := s.receipt(ctx, w.who, w.promise); err != nil {
			lost++
			b.fail("promise %d of %s: %v", w.promise.Index, w.who.who, err)
		}
	}
	if lost == 0 {
		b.Blocked = 1
	}
	if refused > 0 {
		b.Detected = 1
	}
	if atKill < loadLooks {
		b.fail("only %d promises were given within %s: too little load to prove anything", atKill, loadMost)
	}
	s.paper.say("health", "answered again %s after the kill; %d checks in between found the node down", back.Round(10*time.Millisecond), refused)
	s.paper.say("pasban", "%d promises given before the kill and %d after; %d of %d became receipts that verify against the ledger's key; sessions survived",
		atKill, len(words)-atKill, len(words)-lost, len(words))
	b.See = s.net.base + "/soc"
	s.paper.say("see", "%s, and %s", b.See, s.net.base+"/trust")
	return nil
}

// load is officers opening records as fast as they can.
type load struct {
	wg   sync.WaitGroup
	quit atomic.Bool

	mu       sync.Mutex // covers what follows
	words    []word
	failures []string
}

// load starts the officers. Each opens the same few records over and over, so
// that no budget is in the way. A connection that breaks is no refusal: the
// node is dead then, and the browser tries again.
func (s *story) load(ctx context.Context, crew []*visitor) *load {
	l := &load{}
	for i, v := range crew {
		l.wg.Go(func() {
			for n := 0; !l.quit.Load() && ctx.Err() == nil; n++ {
				c := s.people.Citizens[(10*i+n%10)%len(s.people.Citizens)]
				a, err := v.get(ctx, "/records/"+string(c.CNIC), wantPage)
				if err != nil || a.Status == http.StatusServiceUnavailable || a.Status == http.StatusBadGateway {
					select {
					case <-ctx.Done():
					case <-time.After(10 * time.Millisecond):
					}
					continue
				}
				list, err := a.promises(s.verifier.Name())
				l.note(v, a, list, err)
			}
		})
	}
	return l
}

func (l *load) note(v *visitor, a answer, list []pasban.Promise, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.failures = append(l.failures, err.Error())
	case !a.ok() || len(list) == 0:
		l.failures = append(l.failures, fmt.Sprintf("%s: status %d and %d promises%s", v.who, a.Status, len(list), because(a)))
	}
	for _, p := range list {
		l.words = append(l.words, word{v, p})
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.words)
}

// await waits until n promises were given, or loadMost has passed.
func (l *load) await(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, loadMost)
	defer cancel()
	for l.count() < n {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (l *load) stop() ([]word, []string) {
	l.quit.Store(true)
	l.wg.Wait()
	return l.words, l.failures
}

// watchHealth asks the health endpoint over and over until the returned
// function is called, which says how many checks found the node not ready.
func (s *story) watchHealth(ctx context.Context) func() int {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	down := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			if s.node.ready(ctx) != nil && ctx.Err() == nil {
				down++
			}
			select {
			case <-ctx.Done():
			case <-time.After(25 * time.Millisecond):
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return down
	}
}
