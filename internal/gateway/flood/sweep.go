package flood

import (
	"maps"
	"slices"
	"time"
)

// A connection with data on its way to a client that takes less than
// readRate of it for as long as its patience lasts is reset: kernels hold
// megabytes, so that no write of ours would ever block on a slow reader.
const (
	sweepEvery   = 2 * time.Second
	readRate     = 256 // bytes a second
	readPatience = 30 * time.Second
	// With more than a quarter of all connections in use there is less patience,
	// and for half a minute after.
	shortPatience = 6 * time.Second
)

// sweep resets readers of the listener's that do not read, until done.
func (ln *listener) sweep(done <-chan struct{}) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-t.C:
			for _, c := range ln.stalled(now) {
				c.abuse("slow reading")
			}
		}
	}
}

// stalled finds the listener's connections whose patience is over. They remember
// what the last sweep saw: one sweep at a time.
func (ln *listener) stalled(now time.Time) (out []*conn) {
	l := ln.limiter
	l.mu.Lock()
	all := slices.Collect(maps.Keys(l.all))
	patience := readPatience
	if len(all) > l.limits.Conns/4 {
		l.pressed = now
	}
	if now.Sub(l.pressed) < readPatience {
		patience = shortPatience
	}
	l.mu.Unlock()
	for _, c := range all {
		if c.from == ln && c.unread(now) >= patience {
			out = append(out, c)
		}
	}
	return out
}

// unread is for how long the client has not read what waits for it.
func (c *conn) unread(now time.Time) time.Duration {
	written := c.written.Load()
	waiting := queued(c.Conn) // after written, which it may be part of already
	arrived := written - int64(waiting)
	switch {
	case waiting == 0:
		c.moved = time.Time{}
		return 0
	case c.moved.IsZero(), float64(arrived-c.sent) >= readRate*now.Sub(c.moved).Seconds():
		c.sent, c.moved = arrived, now
		return 0
	}
	return now.Sub(c.moved)
}
