package ingest

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pasban/internal/config"
)

// spooling is a source of which the frames are collected as they are spooled.
func spooling(t *testing.T) (s *source, ctx context.Context, frames func() []string) {
	t.Helper()
	spool, err := OpenSpool(t.TempDir(), 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var got []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		spool.Follow(ctx, 0, func(f Frame) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, strings.TrimSuffix(string(f.Data), "\n"))
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		spool.Close()
	})
	return &source{conf: config.LogSource{Name: "hosts"}, spool: spool}, ctx, func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

const (
	first = "<13>Nov 28 07:05:09 db1 audispd: type=SYSCALL msg=audit(1764300000.123:71): exe=\"/usr/bin/nc\""
	rest  = "<13>Nov 28 07:05:09 db1 audispd: type=EXECVE msg=audit(1764300000.123:71): a0=\"nc\""
	end   = "<13>Nov 28 07:05:09 db1 audispd: type=EOE msg=audit(1764300000.123:71):"
	other = "<38>Nov 28 07:05:09 db1 sshd[9]: hello"
)

// messages are sent after pauses, in milliseconds.
type messages []struct {
	pause int
	text  string
}

// TestTogether: a message is spooled at once if nothing else is there, and records
// of one audit event together, also if they come one after the other; nothing
// waits for long.
func TestTogether(t *testing.T) {
	for _, tt := range []struct {
		name string
		send messages
		want []string // frames, after a second
	}{
		{"others", messages{{0, other}, {50, other}}, []string{other, other}},
		{"an event in pieces", messages{{0, first}, {50, rest}, {50, end}, {50, other}}, []string{first + "\n" + rest + "\n" + end, other}},
		{"no end", messages{{0, first}, {50, rest}, {300, other}}, []string{first + "\n" + rest, other}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, ctx, frames := spooling(t)
				ours, theirs := net.Pipe()
				done := make(chan struct{})
				go func() { defer close(done); s.conversation(ctx, theirs) }()
				for _, m := range tt.send {
					time.Sleep(time.Duration(m.pause) * time.Millisecond)
					if _, err := ours.Write([]byte(m.text + "\n")); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				if got := frames(); !slices.Equal(got, tt.want) {
					t.Errorf("%q", got)
				}
				ours.Close()
				<-done
			})
		})
	}
}

// datagrams is a UDP socket within the test.
type datagrams struct {
	net.PacketConn
	in       chan string
	deadline time.Time
}

func (d *datagrams) SetReadDeadline(t time.Time) error { d.deadline = t; return nil }

func (d *datagrams) Close() error { return nil }

func (d *datagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	var timeout <-chan time.Time
	if !d.deadline.IsZero() {
		timeout = time.After(time.Until(d.deadline))
	}
	select {
	case m, ok := <-d.in:
		if !ok {
			return 0, nil, net.ErrClosed
		}
		return copy(b, m), nil, nil
	case <-timeout:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// TestTrickle: datagrams are spooled together, but the first of them does not wait
// for a pause between the others.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx, frames := spooling(t)
		d := &datagrams{in: make(chan string)}
		done := make(chan struct{})
		go func() { defer close(done); s.serveUDP(ctx, d) }()
		for range 10 {
			d.in <- other
			time.Sleep(30 * time.Millisecond)
		}
		if got := frames(); len(got) != 1 || strings.Count(got[0], other) != 7 {
			t.Errorf("after 0.3 s: %q", got)
		}
		time.Sleep(time.Second)
		d.in <- first
		time.Sleep(250 * time.Millisecond)
		d.in <- end // its event is open: it is waited for a little longer
		time.Sleep(time.Second)
		if got := frames(); len(got) != 3 || got[2] != first+"\n"+end {
			t.Errorf("%q", got)
		}
		close(d.in)
		<-done
	})
}
