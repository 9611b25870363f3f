package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
	"pasban/internal/ledger/witness"
)

// Witnesses says who cosigns the ledger's checkpoints, and when one is final. The
// zero value is for a ledger without witnesses.
type Witnesses struct {
	Of   []*witness.Client
	Need int // so many of them must have cosigned a checkpoint; at least 1 if there are any

	Timeout  time.Duration // for one question to one witness; default 5 s
	Pause    time.Duration // after the first failure of a witness; doubles up to 64 times itself; default 1 s
	Renew    time.Duration // age at which a cosignature of a ledger that does not grow is renewed; default 10 min
	Patience time.Duration // how long checkpoints may not be final before that is an alarm; default 1 min
}

func (w *Witnesses) defaults() {
	w.Timeout = cmp.Or(w.Timeout, 5*time.Second)
	w.Pause = cmp.Or(w.Pause, time.Second)
	w.Renew = cmp.Or(w.Renew, 10*time.Minute)
	w.Patience = cmp.Or(w.Patience, time.Minute)
}

// cosigner asks the witnesses about one checkpoint after the other. Each witness is
// asked one question at a time. The questions that a checkpoint is waited for
// with are those to witnesses in good standing: one that failed last time is
// asked again after a while, but nobody waits for its answer.
//
// Its first checkpoint is the one that was signed last before the start. Until
// the witnesses have said that they hold nothing else, nothing is signed.
type cosigner struct {
	Witnesses
	l         *Ledger
	policy    *pasban.WitnessPolicy
	published chan struct{}              // a checkpoint was published; holds one
	answers   chan answer                // room for one of each witness
	confirmed chan struct{}              // closed when the guard may sign
	served    atomic.Pointer[checkpoint] // what the public is shown; nil if there is none

	// What follows is changed by run's goroutine alone, which holds mu for that and
	// needs none to read.
	mu      sync.Mutex
	members []*member
	offered cosigned  // what the witnesses are asked about
	final   cosigned  // the newest that is final; without raw if there is none
	since   time.Time // when the oldest checkpoint was offered that is not final; zero if offered is
	alarm   time.Time // when that, or that they have not spoken, becomes an alarm; zero if it is one already, or there is nothing to tell
	open    bool      // confirmed is closed
	keepErr error     // why the final checkpoint could not be kept
}

// member is one witness as the ledger knows it.
type member struct {
	*witness.Client
	i     int       // its place
	size  int64     // the newest that it has cosigned, as far as is known
	at    time.Time // when it cosigned last; zero if not since the start
	tried bool      // it was asked since the start
	told  bool      // it said that it holds nothing but what is ours
	err   error     // why it does not cosign
	fails int       // in a row
	due   time.Time // when it may be asked again
	asked int64     // the size that it is being asked about; -1 if it is not
}

// answer is how a question to a witness ended.
type answer struct {
	m    *member
	cp   checkpoint
	line []byte // nil if it did not cosign
	told bool
	err  error
}

// conflict is what a witness holds that cannot be, unless this ledger is an old
// copy or its key signs for another as well.
type conflict struct {
	witness, action, msg string
	size, own            int64
}

// Error implements error.
func (c *conflict) Error() string { return c.msg }

// newCosigner makes the cosigner of a ledger that is open but for its guard.
func newCosigner(ctx context.Context, l *Ledger, w Witnesses) (*cosigner, error) {
	w.defaults()
	var keys []string
	for _, m := range w.Of {
		keys = append(keys, m.Key())
	}
	policy, err := pasban.NewWitnessPolicy(w.Need, keys)
	if err != nil {
		return nil, err
	}
	c := &cosigner{Witnesses: w, l: l, policy: policy, published: make(chan struct{}, 1), answers: make(chan answer, len(w.Of)), confirmed: make(chan struct{})}
	for i, m := range w.Of {
		c.members = append(c.members, &member{Client: m, i: i, asked: -1})
	}
	record, _ := l.guard.state()
	cp, err := l.again(record)
	if err != nil {
		return nil, err
	}
	if disk := l.published.Load(); disk != nil && disk.Tree == cp.Tree {
		cp = *disk
	}
	if c.offered, err = newCosigned(cp, l.verifier, w.Of); err != nil {
		return nil, err
	}
	final, ok, err := c.loadFinal(ctx)
	switch {
	case err != nil:
		return nil, err
	case ok && final.Tree == c.offered.Tree:
		for i, line := range final.lines {
			if line != nil {
				c.offered.lines[i] = line
			}
		}
		c.offered.final = final.final
		c.final = c.offered
	case ok:
		c.final = final
	}
	now := time.Now()
	c.alarm = now.Add(c.Patience) // until they have spoken, at least
	if c.offered.final.IsZero() && c.offered.N > 0 {
		c.since = now
	}
	if disk := l.published.Load(); disk != nil {
		c.served.Store(disk)
		if disk.Tree == c.offered.Tree {
			whole := c.offered.whole()
			c.served.Store(&whole)
		}
	}
	return c, nil
}

// run asks until ctx is done, or returns what a witness holds that cannot be.
func (c *cosigner) run(ctx context.Context) *conflict {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for {
		wait := c.ask(ctx, &wg)
		c.show(ctx)
		c.complain(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-c.published:
		case a := <-c.answers:
			if bad, ok := errors.AsType[*conflict](a.err); ok {
				c.hear(a)
				return bad
			}
			c.hear(a)
		case <-time.After(wait):
		}
	}
}

// ask takes the next checkpoint when it is time, and asks every witness that is
// due. It returns how long until one is due that is not now.
func (c *cosigner) ask(ctx context.Context, wg *sync.WaitGroup) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if cp := c.l.published.Load(); c.open && cp != nil && cp.N > c.offered.N && !c.awaited() {
		next, err := newCosigned(*cp, c.l.verifier, c.Of)
		if err != nil { // it was verified when it was published
			slog.ErrorContext(ctx, "ledger: a checkpoint cannot be taken to the witnesses", "err", err)
			return c.Pause
		}
		c.offered = next
		if c.since.IsZero() {
			c.since, c.alarm = now, now.Add(c.Patience)
		}
	}
	wait := c.Renew
	if c.keepErr != nil {
		wait = c.Pause
	}
	if !c.alarm.IsZero() {
		wait = min(wait, max(c.alarm.Sub(now), 0))
	}
	for _, m := range c.members {
		if m.asked >= 0 {
			continue
		}
		due := m.due
		if renew := m.at.Add(c.Renew); c.offered.lines[m.i] != nil && m.told && renew.After(due) {
			due = renew
		}
		if left := due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		m.asked = c.offered.N
		cp, old := c.offered.checkpoint, m.size
		wg.Go(func() { c.answers <- c.question(ctx, m, old, cp) })
	}
	return wait
}

// awaited reports whether the offered checkpoint may still become final by the
// answers of witnesses in good standing.
func (c *cosigner) awaited() bool {
	if !c.offered.final.IsZero() {
		return false
	}
	for _, m := range c.members {
		if m.asked == c.offered.N && m.fails == 0 {
			return true
		}
	}
	return false
}

// question asks one witness about one checkpoint, which extends what the witness
// has seen: old leaves, or as many as it says.
func (c *cosigner) question(ctx context.Context, m *member, old int64, cp checkpoint) answer {
	ctx, stop := context.WithTimeout(ctx, c.Timeout)
	defer stop()
	a := answer{m: m, cp: cp}
	said := int64(-1) // the size that it names
	for range 4 {
		proof, err := c.l.extends(ctx, old, cp.Tree)
		if err != nil {
			a.err = err
			return a
		}
		a.line, a.err = m.Add(ctx, old, proof, cp.raw, c.l.verifier)
		ref, refused := errors.AsType[*witness.Refusal](a.err)
		if !refused {
			a.told = a.err == nil
			return a
		}
		record, _ := c.l.guard.state()
		if bad := contradiction(ref, m.Name(), old, said, cp.N, record.n); bad != nil {
			a.err = bad
			return a
		}
		switch {
		case ref.Status == http.StatusConflict && ref.Size < 0 && said < 0 && old > 0:
			old = 0 // it has to name a size then
		case ref.Status == http.StatusConflict && ref.Size >= 0 && ref.Size != old && ref.Size <= cp.N:
			old, said = ref.Size, ref.Size
		default:
			// Of no leaves at all some cosign nothing; one that held any would have said so.
			a.told = cp.N == 0 && (ref.Status == http.StatusBadRequest || ref.Status == http.StatusUnprocessableEntity)
			return a
		}
	}
	a.err = errors.New("it contradicts itself about what it has cosigned")
	return a
}

// contradiction is what a refusal says that cannot be, nil if it says nothing of
// the kind: the witness was asked about n leaves that extend old, of which it
// named said before (-1 for none), and this ledger has signed own at most.
func contradiction(ref *witness.Refusal, name string, old, said, n, own int64) *conflict {
	bad := &conflict{witness: name, size: max(ref.Size, old), own: own}
	another := ref.Status == http.StatusConflict
	switch {
	case another && ref.Size > own:
		bad.action = "rollback"
		bad.msg = fmt.Sprintf("the witness %s has cosigned a checkpoint of %d leaves with this ledger's key, and this ledger has signed none of more than %d: it is an old copy, or another one signs with its key", name, ref.Size, own)
	case another && n > 0 && old == n && (ref.Size == n || ref.Size < 0 && said == n):
		bad.action = "fork"
		bad.msg = fmt.Sprintf("the witness %s has cosigned another root for %d leaves with this ledger's key: the ledger has forked", name, n)
	case ref.Status == http.StatusUnprocessableEntity && old > 0:
		bad.action = "fork"
		bad.msg = fmt.Sprintf("the witness %s does not accept the proof that this ledger's %d leaves extend the %d that it has seen: the ledger has forked", name, n, old)
	default:
		return nil
	}
	return bad
}

// extends proves that a tree extends its first old leaves.
func (l *Ledger) extends(ctx context.Context, old int64, tree tlog.Tree) (tlog.TreeProof, error) {
	if old == 0 || old == tree.N {
		return nil, nil
	}
	proof, err := tlog.ProveTree(tree.N, old, tiles.HashReader(ctx, l.storage, tree))
	if err != nil {
		return nil, fmt.Errorf("it is not asked: that the ledger extends %d leaves cannot be proven from its files: %w", old, err)
	}
	return proof, nil
}

// hear takes an answer down.
func (c *cosigner) hear(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, m := time.Now(), a.m
	if fresh := !m.tried || m.err == nil; a.err != nil && fresh {
		slog.Warn("ledger: a witness does not cosign", "witness", m.Name(), "size", a.cp.N, "err", a.err)
	} else if a.err == nil && m.err != nil {
		slog.Info("ledger: a witness cosigns again", "witness", m.Name(), "size", a.cp.N)
	}
	m.asked, m.tried, m.told, m.err = -1, true, m.told || a.told, a.err
	if a.line != nil {
		m.size, m.at, m.fails, m.due = a.cp.N, now, 0, time.Time{}
		if a.cp.N == c.offered.N {
			c.offered.lines[m.i] = a.line
		}
		return
	}
	m.fails++
	pause := c.Pause << min(m.fails-1, 6)
	m.due = now.Add(pause/2 + rand.N(pause)) // not all ledgers of a witness at once
}

// show publishes the offered checkpoint when it is final, or when no answer that
// would make it final is waited for; and lets the guard sign when enough
// witnesses have said what they hold.
func (c *cosigner) show(ctx context.Context) {
	c.finalize(ctx)
	if c.confirm() {
		c.mu.Lock()
		if c.open = true; c.since.IsZero() {
			c.alarm = time.Time{}
		}
		c.mu.Unlock()
		c.l.guard.open()
		close(c.confirmed)
		slog.InfoContext(ctx, "ledger: the witnesses have spoken: signing", "storage", c.l.storage.Name(), "size", c.offered.N)
	}
	had := c.served.Load()
	if c.awaited() || c.l.published.Load() == nil || had != nil && c.offered.N < had.N {
		return
	}
	whole := c.offered.whole()
	if had != nil && bytes.Equal(had.raw, whole.raw) {
		return
	}
	c.served.Store(&whole)
	c.l.wakeAll()
	if c.offered.count() > 0 {
		if err := c.l.put(ctx, whole); err != nil {
			slog.WarnContext(ctx, "ledger: the cosignatures cannot be written beside the checkpoint", "err", err)
		}
	}
}

// finalize makes the offered checkpoint the final one if enough have cosigned it
// and that could be written down.
func (c *cosigner) finalize(ctx context.Context) {
	next := c.offered
	if next.final.IsZero() {
		if next.count() < c.Need {
			return
		}
		next.final = time.Now()
		if err := c.keepFinal(context.WithoutCancel(ctx), &next); err != nil {
			slog.ErrorContext(ctx, "ledger: a final checkpoint cannot be kept", "err", err)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.keepErr = err
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offered, c.final, c.keepErr = next, next, nil
	if c.since = (time.Time{}); c.open {
		c.alarm = time.Time{}
	}
}

// confirm reports whether the guard may begin to sign: every witness was asked,
// and as many as make a checkpoint final said that they hold nothing but what is
// ours.
func (c *cosigner) confirm() bool {
	told := 0
	for _, m := range c.members {
		if !m.tried {
			return false
		}
		if m.told {
			told++
		}
	}
	return !c.open && told >= c.Need
}

// complain records, once, that checkpoints have not become final for long, or that
// the witnesses have not spoken since the start.
func (c *cosigner) complain(ctx context.Context) {
	if c.alarm.IsZero() || time.Now().Before(c.alarm) {
		return
	}
	next, reason := time.Time{}, c.lacks()
	if err := c.pending(); err != nil {
		reason = err.Error()
	}
	if _, err := c.l.j.Record(ctx, c.l.witnessFact("unwitnessed", "", reason)); err != nil {
		slog.ErrorContext(ctx, "ledger: an alarm cannot be recorded", "err", err)
		next = time.Now().Add(10 * c.Pause)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = next
}

// lacks says what keeps checkpoints from being final. mu is held, or the caller
// is run's goroutine.
func (c *cosigner) lacks() string {
	parts := []string{fmt.Sprintf("%d of the %d cosignatures that are needed", c.offered.count(), c.Need)}
	if c.keepErr != nil {
		parts = append(parts, "the final checkpoint cannot be kept: "+c.keepErr.Error())
	}
	for _, m := range c.members {
		switch {
		case m.err != nil:
			parts = append(parts, fmt.Sprintf("%s: %v", m.Name(), m.err))
		case !m.tried:
			parts = append(parts, m.Name()+" has not answered yet")
		}
	}
	return strings.Join(parts, "; ")
}

// pending returns why nothing is signed yet, nil if the witnesses have spoken.
func (c *cosigner) pending() error {
	select {
	case <-c.confirmed:
		return nil
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &pasban.Error{Kind: pasban.Unavailable, Where: "ledger.witnesses", Msg: "nothing is signed before the witnesses have said what they saw last: " + c.lacks(),
		Hint: "a ledger that was restored from an old backup would be noticed by that; a witness that is gone for good has to be taken out of the configuration"}
}

// WitnessStatus is one witness as the ledger sees it.
type WitnessStatus struct {
	Name     string
	Size     uint64    // leaves under the newest checkpoint that it cosigned since the start
	Cosigned time.Time // when it did; zero if not since the start
	Err      error     // why it does not cosign; nil if it does
}

// Witnessing is how the ledger stands with its witnesses.
type Witnessing struct {
	Need    int // of Of, for a checkpoint to be final; 0 if there are no witnesses
	Of      []WitnessStatus
	Size    uint64        // leaves under the newest final checkpoint
	Final   time.Time     // when it became final; zero if there is none
	Lag     time.Duration // for how long checkpoints have not been final; 0 if the newest is
	Problem error         // why; nil while that is not for long
}

// grace is for how many questions' length the newest checkpoint may not be final
// before that is a problem.
const grace = 2

func (c *cosigner) status() Witnessing {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := Witnessing{Need: c.Need, Size: uint64(c.final.N), Final: c.final.final}
	for _, m := range c.members {
		w.Of = append(w.Of, WitnessStatus{Name: m.Name(), Size: uint64(m.size), Cosigned: m.at, Err: m.err})
	}
	if !c.since.IsZero() {
		w.Lag = time.Since(c.since)
	}
	if w.Lag > grace*c.Timeout {
		w.Problem = &pasban.Error{Kind: pasban.Unavailable, Where: "ledger.witnesses", Msg: fmt.Sprintf("the newest checkpoints have not been final for %s: %s", w.Lag.Round(time.Second), c.lacks())}
	}
	return w
}

// refuse stops the ledger for good over what a witness holds, and raises the alarm.
func (l *Ledger) refuse(ctx context.Context, bad *conflict) {
	l.guard.close()
	err := fatal{&pasban.Error{Kind: pasban.Conflict, Where: "ledger.witnesses", Msg: "refused to sign any more: " + bad.msg,
		Hint: "keep everything as it is; restore a newer backup, or find out who else has the key (docs/OPERATING.md, Witnesses)"}}
	l.mu.Lock()
	l.health.fatal = err
	l.mu.Unlock()
	slog.ErrorContext(ctx, "ledger: stopped for good", "storage", l.storage.Name(), "err", err)
	f := l.witnessFact(bad.action, bad.witness, bad.msg)
	f.Restricted.More["seen"], f.Restricted.More["own"] = fmt.Sprint(bad.size), fmt.Sprint(bad.own)
	for {
		_, err := l.j.Record(context.WithoutCancel(ctx), f)
		if err == nil {
			return
		}
		slog.ErrorContext(ctx, "ledger: an alarm cannot be recorded", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(poll):
		}
	}
}

// witnessFact is an alarm about what witnesses say: rollback and fork about this
// ledger, unwitnessed about cosignatures that do not come.
func (l *Ledger) witnessFact(action, name, reason string) pasban.Fact {
	f := l.alarmFact(name, action, reason)
	f.Restricted.More["witness"] = name
	return f
}
