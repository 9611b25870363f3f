package eventstore

import (
	"context"
	"errors"
	"fmt"
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

// full is a store that has every second event up to last, and counts.
type full struct {
	Store
	last               uint64
	most, added, asked int // rows of one answer, events, and questions
}

func (s *full) Search(_ context.Context, q Query, _ int, each func(Row) error) error {
	var from, to uint64
	if _, err := fmt.Sscanf(q.LogsQL, FieldSeq+":>=%d "+FieldSeq+":<%d ", &from, &to); err != nil {
		return err
	}
	if s.asked++; s.asked == 1 {
		return each(Row{{"highest", fmt.Sprint(s.last)}})
	}
	rows := 0
	for n := from + from%2; n < min(to, s.last+1); n += 2 {
		rows++
		if err := each(Row{{FieldID, fmt.Sprint(n)}}); err != nil {
			return err
		}
	}
	s.most = max(s.most, rows)
	return nil
}

func (s *full) Add(_ context.Context, events []Event) error { s.added += len(events); return nil }

// TestPositionLost: a feed that begins at the beginning of a full store adds what
// is not there, and holds no more of what is there than a lot; where the store has
// nothing it asks no more.
func TestPositionLost(t *testing.T) {
	p, err := OpenPositions(filepath.Join(t.TempDir(), "position.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &full{last: 100_000}
	f := NewFeed(FeedOptions{Store: s, Positions: p, Name: "journal", High: 1 << 62})
	ctx, cancel := context.WithCancel(t.Context())
	const lot, all = 1000, 150_000
	f.Run(ctx, func(ctx context.Context, _ uint64) error {
		defer cancel()
		for n := uint64(1); n < all; n += lot {
			var events []Event
			for i := range uint64(lot) {
				events = append(events, Event{ID: fmt.Sprint(n + i), Seq: n + i, Time: time.Now()})
			}
			if err := f.Add(ctx, events, n+lot-1); err != nil {
				return err
			}
		}
		return nil
	})
	if st := f.Status(); st.Again != 50_000 || st.Added != 100_000 || s.added != 100_000 {
		t.Errorf("%+v, %d added", st, s.added)
	}
	if s.most > lot+2*numberMargin || s.asked > 1+(100_000+numberMargin)/lot+1 {
		t.Errorf("%d ids at once, %d questions", s.most, s.asked)
	}
}
