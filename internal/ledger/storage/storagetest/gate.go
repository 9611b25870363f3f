package storagetest

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Gate stands before a real server and lets its bytes through, or not: held, a
// storage is slow without end; cut, it cannot be reached.
type Gate struct {
	listener net.Listener
	network  string
	to       string

	mu    sync.Mutex // covers what follows
	open  *sync.Cond
	held  bool
	cut   bool
	conns map[net.Conn]bool
}

// NewGate stands before a server until the test ends.
func NewGate(t testing.TB, network, to string) *Gate {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "pasban-gate-") // a socket's path is short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		at = filepath.Join(dir, "gate")
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{listener: l, network: network, to: to, conns: map[net.Conn]bool{}}
	g.open = sync.NewCond(&g.mu)
	go g.serve()
	t.Cleanup(func() {
		l.Close()
		g.Cut()
	})
	return g
}

// Address is where the gate listens.
func (g *Gate) Address() string { return g.listener.Addr().String() }

// Hold lets nothing through any more, and ends no connection.
func (g *Gate) Hold() { g.set(true, false) }

// Cut ends every connection and takes no new one.
func (g *Gate) Cut() { g.set(false, true) }

// Open lets everything through.
func (g *Gate) Open() { g.set(false, false) }

func (g *Gate) set(held, cut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.cut = held, cut
	if cut {
		for c := range g.conns {
			c.Close()
		}
		clear(g.conns)
	}
	g.open.Broadcast()
}

func (g *Gate) serve() {
	for {
		in, err := g.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial(g.network, g.to)
		if err != nil || !g.keep(in, out) {
			in.Close()
			if err == nil {
				out.Close()
			}
			continue
		}
		go g.through(in, out)
		go g.through(out, in)
	}
}

// keep takes connections down, to be ended when the gate is cut.
func (g *Gate) keep(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		if g.cut {
			return false
		}
		g.conns[c] = true
	}
	return true
}

// through copies from one side to the other while the gate is open.
func (g *Gate) through(from, to net.Conn) {
	defer func() {
		from.Close()
		to.Close()
		g.mu.Lock()
		delete(g.conns, from)
		g.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			g.mu.Lock()
			for g.held {
				g.open.Wait()
			}
			g.mu.Unlock()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
