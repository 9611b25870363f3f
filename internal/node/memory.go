package node

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	gauges "runtime/metrics"
	"time"
)

// How much memory the runtime keeps beside what is alive, unless the operator
// says so with GOMEMLIMIT. The collector's own goal is twice the live heap; what
// was more for a moment it would give back only slowly.
const (
	leastMemory = 76 << 20 // bytes that it may always have
	keptMemory  = 2.1      // times the live heap
)

// keepLean has the runtime give back what it does not need, until ctx ends. The
// limit is a soft one ("A Guide to the Go
// Garbage Collector", section "Memory limit") and moves with the live heap
// every second, so that it never makes the collector work for its sake.
func keepLean(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	defer debug.SetMemoryLimit(math.MaxInt64)
	live := []gauges.Sample{{Name: "/gc/heap/live:bytes"}}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		gauges.Read(live)
		if live[0].Value.Kind() != gauges.KindUint64 {
			return // this runtime does not tell
		}
		debug.SetMemoryLimit(max(leastMemory, int64(keptMemory*float64(live[0].Value.Uint64()))))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
