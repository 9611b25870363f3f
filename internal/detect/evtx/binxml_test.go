package evtx

import "testing"

// TestBrokenFragmentsLeaveNothing: records may overlap, and each may break off
// after thousands of nodes. They do not pile up.
func TestBrokenFragmentsLeaveNothing(t *testing.T) {
	c, work := newChunk(), maxWork
	c.reset([]byte{tokTemplate}, 0) // cut off
	for range 3 {
		p := &parser{c: c, work: &work, end: len(c.data)}
		if _, err := p.fragment(); err == nil {
			t.Fatal("half a template instance is read")
		}
	}
	if n := len(c.nodes.stack); n > 1 {
		t.Errorf("%d nodes of broken fragments are kept", n)
	}
}
