package pass

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// roomAt is a room that admits two a second, at t0, with nobody in it.
func roomAt(t *testing.T, path string, now time.Time) (*Rooms, *Room) {
	t.Helper()
	rs, err := OpenRooms(path)
	if err != nil {
		t.Fatal(err)
	}
	return rs, rs.Room("r", 2, now)
}

func TestRoomIsFair(t *testing.T) {
	_, r := roomAt(t, filepath.Join(t.TempDir(), "queue.json"), t0)
	var places []uint64
	for range 12 {
		places = append(places, r.Join(t0))
	}
	called := func(now time.Time) (n int) {
		for i, p := range places {
			turn := r.Turn(p, now)
			if turn.Called {
				if i != n {
					t.Fatalf("place %d is called before place %d", i, n)
				}
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 2}, {time.Second, 4}, {3 * time.Second, 8}, {10 * time.Second, 12}} {
		if got := called(t0.Add(c.after)); got != c.want {
			t.Errorf("after %s: %d called, want %d", c.after, got, c.want)
		}
	}
	// It fills again from where it is: nothing is saved up but one burst.
	now := t0.Add(time.Minute)
	n := 0
	for range 10 {
		if r.Turn(r.Join(now), now).Called {
			n++
		}
	}
	if n != 2 {
		t.Errorf("after a quiet minute %d come in at once, want 2", n)
	}
	last := r.Join(now)
	turn := r.Turn(last, now)
	if turn.Called || turn.Ahead != 8 || turn.Wait != 4500*time.Millisecond {
		t.Errorf("the eleventh: %+v", turn)
	}
	if w := r.Waiting(now); w != 9 {
		t.Errorf("%d wait, want 9", w)
	}
	for _, p := range []uint64{0, last + 1, 1 << 63} {
		if turn := r.Turn(p, now); turn.Called || !turn.Late {
			t.Errorf("a place that was never given: %+v", turn)
		}
	}
}

// Places that nobody claims hold up no one, and are not good for ever.
func TestAbandonedPlaces(t *testing.T) {
	_, r := roomAt(t, filepath.Join(t.TempDir(), "queue.json"), t0)
	mine := r.Join(t0)
	for s := range 400 {
		now := t0.Add(time.Duration(s) * time.Second)
		r.Join(now)
		turn := r.Turn(mine, now)
		switch {
		case s < 290 && !turn.Called:
			t.Fatalf("after %d s the place is lost: %+v", s, turn)
		case s > 320 && !turn.Late:
			t.Fatalf("after %d s it is still good: %+v", s, turn)
		}
	}
	_, r = roomAt(t, filepath.Join(t.TempDir(), "queue.json"), t0)
	mine = r.Join(t0)
	r.Turn(mine, t0.Add(time.Second))
	if turn := r.Turn(mine, t0.Add(time.Hour)); !turn.Late {
		t.Errorf("after an hour in which nobody asked: %+v", turn)
	}
	if turn := r.Turn(r.Join(t0.Add(time.Hour)), t0.Add(time.Hour)); !turn.Called {
		t.Errorf("who comes then waits: %+v", turn)
	}
}

func TestPlaceIsForOne(t *testing.T) {
	_, r := roomAt(t, filepath.Join(t.TempDir(), "queue.json"), t0)
	for range 2 { // whoever's answer was lost comes again
		if !r.Enter(1, home) {
			t.Error("a called place does not come in")
		}
	}
	if r.Enter(1, other) {
		t.Error("a copy of the place comes in from elsewhere")
	}
	if !r.Enter(2, other) {
		t.Error("another place does not come in")
	}
}

func TestRoomGoesOnAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.json")
	rs, r := roomAt(t, path, t0)
	for range 20 {
		r.Join(t0)
	}
	now := t0.Add(4 * time.Second) // 10 are called
	if err := rs.Save(now); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := rs.Save(now); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("nothing changed, and it was written again")
	}
	down := now.Add(time.Minute)
	_, r = roomAt(t, path, down)
	for place, called := range map[uint64]bool{10: true, 11: false, 20: false} {
		if turn := r.Turn(place, down); turn.Called != called || turn.Late {
			t.Errorf("place %d: %+v, want called %v", place, turn, called)
		}
	}
	if turn := r.Turn(r.Join(down), down); turn.Ahead != 10 {
		t.Errorf("who comes now: %+v, want behind the ten who wait", turn)
	}
	if turn := r.Turn(20, down.Add(5*time.Second)); !turn.Called {
		t.Errorf("five seconds later: %+v", turn)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRooms(path); err == nil {
		t.Error("a damaged file is taken")
	}
}
