package detect

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A match takes along the received events that it names, those of a correlation
// from before too, and leaves the journal's to the journal.
func TestMatchesTakeReceivedEventsAlong(t *testing.T) {
	e := loadCorrelation(t, "type: event_count\nrules: a\ngroup-by: Who\ntimespan: 1m\ncondition: {gte: 3}")
	at := FirstReceived + 7
	var last []Match
	for i, seq := range []uint64{at, 5, at + 1} {
		last = e.Match(event("F", "a", "Who", "x", "time", zero.Add(time.Duration(i)*time.Second).UnixMilli(), "Seq", seq, "N", i))
	}
	if len(last) != 1 || len(last[0].Refs) != 3 {
		t.Fatalf("matches are %+v", last)
	}
	got := last[0].Received
	if len(got) != 2 || got[at]["N"] != 0 || got[at+1]["N"] != 2 {
		t.Errorf("taken along: %v", got)
	}
	if want := []string{"", "s"}; !slices.Equal(last[0].Parts, want) || len(last[0].Why) != len(want) {
		t.Errorf("reasons %q are of %q, want %q", last[0].Why, last[0].Parts, want)
	}
}

func TestRecentIsBounded(t *testing.T) {
	var r recent
	for seq := range uint64(100) {
		r.add(seq, event("text", strings.Repeat("x", recentMost/2)))
		r.add(seq, event("text", "there already"))
	}
	r.add(1000, event("text", strings.Repeat("x", 2*recentMost)))
	if r.size > recentBytes || len(r.order) != len(r.events) || len(r.events) < 20 {
		t.Errorf("%d events take %d bytes", len(r.events), r.size)
	}
	if r.events[99] == nil || r.events[0] != nil || r.events[1000] != nil {
		t.Error("the newest are not those that are kept")
	}
}

// Each reason names its search identifier, where one is inlined into a larger
// condition too.
func TestReasonsNameTheirSearch(t *testing.T) {
	e, err := loadText(t, searches("s1: {F: a, G|contains: b}\ns2: {H: c}\nout: {H: d}\ncondition: s1 and s2 and not out"))
	if err != nil {
		t.Fatal(err)
	}
	m := e.Match(event("F", "a", "G", "abc", "H", "c"))
	if len(m) != 1 {
		t.Fatal(m)
	}
	got := map[string]string{}
	for i, why := range m[0].Why {
		got[why] = m[0].Parts[i]
	}
	if got[`F is "a"`] != "s1" || got[`G contains "b": "abc"`] != "s1" || got[`H is "c"`] != "s2" || len(got) != 3 {
		t.Errorf("reasons are %q", got)
	}
}
