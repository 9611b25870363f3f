package gateway

import (
	"net/netip"
	"sync"
	"time"

	"pasban"
)

// Bounds of what one client's attacks may make of facts. A scanner sends
// thousands of requests a minute; a fact for each would be signed, sealed and
// kept for years, and the attacker would choose how many.
const (
	spreeLasts = time.Minute
	// toldSingly are the blocks of a spree that are recorded one by one, all of
	// them: more than what any detection rule counts to.
	toldSingly = 32
	// kindsTold is how many kinds of blocks have a fact of their own after that.
	kindsTold = 64
	// mostSprees are watched at once; who comes then is recorded singly.
	mostSprees = 4096
)

// sprees gathers the firewall's blocks of each client. After the first ones a
// block is recorded when it is the first of its kind: another site, or other
// rules that matched. Those that follow are counted, and the counts recorded
// when the spree is over.
type sprees struct {
	report func(client netip.Prefix, like pasban.Fact, count int)

	mu     sync.Mutex // covers everything below
	of     map[netip.Prefix]*spree
	closed bool
}

type spree struct {
	told  int
	kinds map[string]*alike
	last  *alike // for those that come when there are too many kinds
	timer *time.Timer
}

// alike is what blocks have in common, and the fact that tells of the first.
type alike struct {
	like  pasban.Fact
	count int // of those that followed untold
}

// newSprees makes the watch. report is called when a spree has ended, once for
// each kind of which there was more; no lock is held then.
func newSprees(report func(client netip.Prefix, like pasban.Fact, count int)) *sprees {
	return &sprees{report: report, of: map[netip.Prefix]*spree{}}
}

// gather counts a block of a client and returns the id of the fact that it
// belongs to; "" says that it has to be recorded itself.
func (s *sprees) gather(client netip.Prefix, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.of[client]
	if sp == nil || sp.told < toldSingly {
		return ""
	}
	k := sp.kinds[name]
	if k == nil && len(sp.kinds) >= kindsTold {
		k = sp.last
	}
	if k == nil {
		return ""
	}
	k.count++
	return k.like.Body.ID
}

// told notes that a block of a client has been recorded.
func (s *sprees) told(client netip.Prefix, name string, f pasban.Fact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.of[client]
	if sp == nil {
		if s.closed || len(s.of) >= mostSprees {
			return
		}
		sp = &spree{kinds: map[string]*alike{}}
		sp.timer = time.AfterFunc(spreeLasts, func() { s.end(client) })
		s.of[client] = sp
	}
	sp.told++
	if sp.kinds[name] == nil && len(sp.kinds) < kindsTold {
		sp.kinds[name] = &alike{like: f}
	}
	if k := sp.kinds[name]; k != nil {
		sp.last = k
	}
}

// end reports a spree that is over.
func (s *sprees) end(client netip.Prefix) {
	s.mu.Lock()
	sp := s.of[client]
	delete(s.of, client)
	s.mu.Unlock()
	if sp != nil {
		s.tell(client, sp)
	}
}

func (s *sprees) tell(client netip.Prefix, sp *spree) {
	for _, k := range sp.kinds {
		if k.count > 0 {
			s.report(client, k.like, k.count)
		}
	}
}

// close reports the sprees that last, as they are. Blocks that come later are
// recorded singly.
func (s *sprees) close() {
	s.mu.Lock()
	s.closed = true
	of := s.of
	s.of = map[netip.Prefix]*spree{}
	s.mu.Unlock()
	for client, sp := range of {
		sp.timer.Stop()
		s.tell(client, sp)
	}
}
