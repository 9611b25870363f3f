package gateway

import "pasban/internal/gateway/waf"

// ReopenLogs has the access log and the firewall's go on in new files, if
// somebody set the old ones aside.
func (g *Gateway) ReopenLogs() {
	g.access.file.Reopen()
	g.log.Reopen()
}

// use makes a state the current one. The one before it is closed when its last
// request has ended: a request keeps the rules, routes and connections that it
// began with.
func (g *Gateway) use(st *state) {
	st.uses.Store(1)
	g.mu.Lock()
	for _, e := range st.engines {
		g.engines[e]++
	}
	g.mu.Unlock()
	if old := g.state.Swap(st); old != nil {
		g.leave(old)
	}
}

// enter returns the current state for a request; leave must follow.
func (g *Gateway) enter() *state {
	for {
		st := g.state.Load()
		// A state that nobody uses any more is closed: there is another by now.
		for n := st.uses.Load(); n > 0; n = st.uses.Load() {
			if st.uses.CompareAndSwap(n, n+1) {
				return st
			}
		}
	}
}

// leave gives a state back. Whoever is the last closes it.
func (g *Gateway) leave(st *state) {
	if st.uses.Add(-1) > 0 {
		return
	}
	var unused []*waf.Engine
	g.mu.Lock()
	for _, e := range st.engines {
		if g.engines[e]--; g.engines[e] == 0 {
			delete(g.engines, e)
			unused = append(unused, e)
		}
	}
	g.mu.Unlock()
	for _, e := range unused {
		e.Close()
	}
	if st.continued {
		return
	}
	for _, s := range st.sites {
		if s.proxy != nil {
			s.proxy.pool.close()
		}
	}
	go st.tracer.close() // it may wait for the collector
}
