package eventstore

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestPositionNotSaved: what is not on disk does not count. A day would be
// deleted whose floor a restart does not know.
func TestPositionNotSaved(t *testing.T) {
	p, err := OpenPositions(filepath.Join(t.TempDir(), "gone", "position.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetFloor(time.Now()); err == nil || !p.Floor().IsZero() {
		t.Errorf("the floor is %v, %v", p.Floor(), err)
	}
	if err := p.save(func(d *positions) { d.Feeds["journal"] = 7 }); err == nil || p.of("journal") != 0 {
		t.Errorf("the position is %d, %v", p.of("journal"), err)
	}
}

// empty is a store that has nothing, and takes everything.
type empty struct{ Store }

func (empty) Search(context.Context, Query, int, func(Row) error) error { return nil }

// TestUnreadableSource: a source that cannot be read, again and again, is said to
// fail since the first time, although the store answers; and until it is read.
func TestUnreadableSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := OpenPositions(filepath.Join(t.TempDir(), "position.json"))
		if err != nil {
			t.Fatal(err)
		}
		f := NewFeed(FeedOptions{Store: empty{}, Positions: p, Name: "logs", High: 1 << 62, Log: slog.New(slog.DiscardHandler)})
		broken := errors.New("too many open files")
		var mended atomic.Bool
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			f.Run(ctx, func(ctx context.Context, _ uint64) error {
				if !mended.Load() {
					return broken
				}
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := f.Status(); !errors.Is(s.Err, broken) || !s.Failing.Equal(began) {
			t.Errorf("after a minute: %+v", s)
		}
		mended.Store(true)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s := f.Status(); s.Err != nil || !s.Failing.IsZero() {
			t.Errorf("when it is mended: %+v", s)
		}
		cancel()
		<-done
	})
}
