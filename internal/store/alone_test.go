package store_test

import (
	"context"
	"sync/atomic"
	"testing"

	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// crowd counts who does a task.
type crowd struct{ now, most atomic.Int32 }

func (c *crowd) come() {
	n := c.now.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
}

// task is one node's part in it.
type task struct {
	began chan struct{}
	stop  context.CancelFunc
	ended chan struct{} // Alone has returned
}

func alone(t *testing.T, st *store.Store, name string, c *crowd) *task {
	ctx, stop := context.WithCancel(t.Context())
	k := &task{began: make(chan struct{}, 10), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		st.Alone(ctx, name, func(ctx context.Context) {
			c.come()
			k.began <- struct{}{}
			<-ctx.Done()
			c.now.Add(-1)
		})
	}()
	t.Cleanup(func() { stop(); <-k.ended })
	return k
}

// TestAlone: of two nodes on one database one does the task; the other goes on with it
// when that one has ended, or has lost its connection; another task has nothing to do
// with it.
func TestAlone(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	a, b := storetest.Open(t, dsn), storetest.Open(t, dsn)
	var c crowd
	first := alone(t, a, "feed", &c)
	<-first.began
	second := alone(t, b, "feed", &c)
	<-alone(t, b, "another", new(crowd)).began
	first.stop()
	<-first.ended
	<-second.began
	third := alone(t, a, "feed", &c)
	<-alone(t, a, "a third", new(crowd)).began
	if n := c.most.Load(); n != 1 {
		t.Errorf("%d at a time", n)
	}
	if err := write(a, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	select { // either of them, once the lost connection was noticed
	case <-second.began:
	case <-third.began:
	}
}

// TestAloneSQLite: a node of its own does everything itself.
func TestAloneSQLite(t *testing.T) {
	first := alone(t, storetest.SQLite(t), "feed", new(crowd))
	<-first.began
	first.stop()
	<-first.ended
}
