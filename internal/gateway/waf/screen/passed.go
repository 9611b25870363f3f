package screen

import (
	"sync"

	"github.com/corazawaf/coraza/v3/types"
)

// passed are the decisions of phases in which light transactions met something
// that may match. The transaction of the whole rule set that takes over finds
// the same values when that phase begins, for nothing has matched before that
// could tell the two apart: it need not decide again.
type passed struct {
	mu sync.Mutex
	of map[any]decision // by transaction
}

type decision struct {
	phase types.RulePhase
	found bits
}

func (p *passed) keep(tx any, d decision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[any]decision{}
	}
	p.of[tx] = d
}

func (p *passed) take(tx any, phase types.RulePhase) (decision, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.of[tx]
	if !ok || d.phase != phase {
		return d, false
	}
	delete(p.of, tx)
	return d, true
}

// Pass gives what was decided last for a light transaction to the one that
// takes over from it and is led through the same request.
func (s *Screen) Pass(from, to types.Transaction) {
	s.passed.mu.Lock()
	defer s.passed.mu.Unlock()
	if d, ok := s.passed.of[from]; ok {
		delete(s.passed.of, from)
		s.passed.of[to] = d
	}
}

// Forget drops what was decided for a transaction. It is to be called before
// the transaction is closed, for Coraza uses it again for another request.
func (s *Screen) Forget(tx types.Transaction) {
	s.passed.mu.Lock()
	defer s.passed.mu.Unlock()
	delete(s.passed.of, tx)
}
