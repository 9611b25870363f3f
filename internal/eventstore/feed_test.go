package eventstore

import (
	"path/filepath"
	"testing"
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
