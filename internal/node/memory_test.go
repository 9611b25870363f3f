package node

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// The limit follows the live heap and is lifted at the end; an operator's own
// is left alone.
func TestKeepLean(t *testing.T) {
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	before := limit()
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(math.MaxInt64)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { keepLean(ctx) })
	large := make([]byte, 256<<20)
	for i := 0; i < len(large); i += 4096 {
		large[i] = 1
	}
	runtime.GC()
	for end := time.Now().Add(10 * time.Second); limit() < 2*int64(len(large)) || limit() == math.MaxInt64; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the limit is %d with %d bytes alive", limit(), len(large))
		}
	}
	runtime.KeepAlive(large)
	cancel()
	running.Wait()
	if limit() != math.MaxInt64 {
		t.Errorf("the limit %d stays after the node", limit())
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30)
	keepLean(t.Context())
	if limit() != 1<<30 {
		t.Errorf("the operator's limit became %d", limit())
	}
}
