package pass

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pasban/internal/keys"
)

var (
	t0    = time.Unix(1_800_000_000, 0)
	home  = NetworkOf(netip.MustParseAddr("198.51.100.7"))
	other = NetworkOf(netip.MustParseAddr("203.0.113.9"))
)

const vectorAnswer = "6884.938.2042.5298.7035.366.8428.6240.7303.16.2059.3515.2168.1950.868.18454"

func newBook() Book { return Book{keys.NewPassKey()} }

func TestPassHoldsWhatWasSealed(t *testing.T) {
	b := newBook()
	p := Pass{ID: newID(), Level: Solved, Count: 2, Issued: t0, Expires: t0.Add(time.Hour), Home: home}
	text := b.Seal(p)
	if got, ok := b.Open(text, t0); !ok || got != p {
		t.Fatalf("Open = %+v, %v; want %+v", got, ok, p)
	}
	if _, ok := b.Open(text, t0.Add(time.Hour)); ok {
		t.Error("an expired pass opens")
	}
	for i := range text {
		for _, c := range []string{"A", "B", "_", "="} {
			if changed := text[:i] + c + text[i+1:]; changed != text {
				if _, ok := b.Open(changed, t0); ok {
					t.Fatalf("opens with %q at %d", c, i)
				}
			}
		}
	}
	for _, bad := range []string{"", "x", text[1:], text + "A", " " + text, strings.Repeat("A", len(text)), strings.Repeat("\n", 40) + text[40:], "\n" + text[1:]} {
		if _, ok := b.Open(bad, t0); ok {
			t.Errorf("%q opens", bad)
		}
	}
	if _, ok := newBook().Open(text, t0); ok {
		t.Error("opens with another key")
	}
}

// Whatever is carried for one use is nothing for another.
func TestUsesAreApart(t *testing.T) {
	b := newBook()
	room := RoomID("land GET /")
	texts := map[string]string{
		"pass": b.Seal(Meet(home, t0)), "challenge": b.Challenge(home, t0), "ticket": b.SealTicket(Ticket{newID(), t0}),
		"place": b.SealPlace(NewPlace(room, 1)), "admission": b.SealAdmission(Admission{newID(), room, home, t0.Add(time.Hour)}),
	}
	for is, text := range texts {
		opened := map[string]bool{}
		_, opened["pass"] = b.Open(text, t0)
		_, opened["challenge"] = b.open(labelChallenge, text, challengeSize)
		_, opened["ticket"] = b.OpenTicket(text, t0)
		_, opened["place"] = b.OpenPlace(text, room)
		_, opened["admission"] = b.OpenAdmission(text, room, t0)
		for as, ok := range opened {
			if ok != (is == as) {
				t.Errorf("a %s opens as %s: %v", is, as, ok)
			}
		}
	}
	if _, ok := b.OpenPlace(texts["place"], RoomID("land GET /other")); ok {
		t.Error("a place is good for another room")
	}
	if _, ok := b.OpenAdmission(texts["admission"], RoomID("land GET /other"), t0); ok {
		t.Error("an admission is good for another room")
	}
}

func TestPassIsEarnedQuietly(t *testing.T) {
	p := Meet(home, t0)
	now, told := t0, 0
	for range 5 { // five pages at once are not a minute
		var ok bool
		if p, ok = p.Answered(home, now); ok {
			told++
		}
	}
	if p.Gives() || told != knownCount-1 {
		t.Fatalf("after five pages at once: %+v, told %d times", p, told)
	}
	id := p.ID
	now = now.Add(knownAfter)
	p, ok := p.Answered(other, now)
	if !ok || p.Level != Known || p.ID != id || p.Home != other || !p.Expires.Equal(now.Add(knownLife)) {
		t.Fatalf("after a minute: %+v, %v", p, ok)
	}
	if _, ok := p.Answered(other, now.Add(knownLife/2)); ok {
		t.Error("renewed too early")
	}
	if next, ok := p.Answered(home, now.Add(knownLife/2+time.Second)); !ok || next.ID != id {
		t.Error("not renewed, or under another id")
	}
	if p, ok := Earned(Waited, newID(), home, t0).Answered(home, t0.Add(knownAfter)); !ok || p.Level != Known {
		t.Errorf("who came by waiting does not come to be known: %+v", p)
	}
}

func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"198.51.100.7", "198.51.100.250", true},
		{"198.51.100.7", "198.51.101.7", false},
		{"::ffff:198.51.100.7", "198.51.100.8", true},
		{"2001:db8:1::1", "2001:db8:1:ffff::9", true},
		{"2001:db8:1::1", "2001:db8:2::1", false},
	} {
		if got := NetworkOf(netip.MustParseAddr(c.a)) == NetworkOf(netip.MustParseAddr(c.b)); got != c.same {
			t.Errorf("%s and %s are one network: %v", c.a, c.b, got)
		}
	}
	if NetworkOf(netip.Addr{}) != (Network{}) {
		t.Error("no address is a network")
	}
}

func TestOnePassDoesNotCarryAFlood(t *testing.T) {
	c, id := NewCarriers(), newID()
	carried := 0
	for i := range 1000 {
		if c.Carry(id, home, home, t0.Add(time.Duration(i)*time.Millisecond)) {
			carried++
		}
	}
	if carried > carryBurst+carryRate {
		t.Errorf("carried %d requests in a second", carried)
	}
	// A phone moves on; a thousand machines do not get far.
	id, carried = newID(), 0
	for i := range 100 {
		if c.Carry(id, home, Network{1, byte(i)}, t0) {
			carried++
		}
	}
	if carried != maxAway {
		t.Errorf("shown from %d networks beside its own, want %d", carried, maxAway)
	}
	if !c.Carry(id, home, home, t0) || !c.Carry(id, home, Network{1, 0}, t0) {
		t.Error("no longer good at home, or where it was good before")
	}
	if !c.Carry(id, home, Network{2}, t0.Add(awayReset+time.Second)) {
		t.Error("an hour later it cannot move on")
	}
}

func TestMintsAreBounded(t *testing.T) {
	c, n := NewCarriers(), 0
	for range 10 * mintBurst {
		if c.Mint(home, t0) {
			n++
		}
	}
	if n != mintBurst {
		t.Errorf("one network got %d at once, want %d", n, mintBurst)
	}
	if !c.Mint(other, t0) {
		t.Error("another network pays for it")
	}
}

func TestWork(t *testing.T) {
	b := newBook()
	challenge := b.Challenge(home, t0)
	answer := Work(challenge)
	id, ok := b.Solved(challenge, answer, home, t0)
	if !ok || id == (ID{}) {
		t.Fatal("the work is not accepted")
	}
	parts := strings.Split(answer, ".")
	if len(parts) != Parts {
		t.Fatalf("%d parts: %s", len(parts), answer)
	}
	swapped := strings.Join(append([]string{parts[1], parts[0]}, parts[2:]...), ".")
	for name, c := range map[string]struct {
		challenge, answer string
		from              Network
		at                time.Time
	}{
		"from another network":   {challenge, answer, other, t0},
		"too late":               {challenge, answer, home, t0.Add(ChallengeLife)},
		"for another challenge":  {b.Challenge(home, t0), answer, home, t0},
		"of another node":        {newBook().Challenge(home, t0), answer, home, t0},
		"parts in another order": {challenge, swapped, home, t0},
		"a part too few":         {challenge, strings.Join(parts[1:], "."), home, t0},
		"a part too many":        {challenge, answer + ".1", home, t0},
		"no part":                {challenge, "", home, t0},
		"a sign":                 {challenge, "+" + answer, home, t0},
		"too long":               {challenge, strings.Repeat("0", maxAnswer+1), home, t0},
	} {
		if _, ok := b.Solved(c.challenge, c.answer, c.from, c.at); ok {
			t.Errorf("accepted: %s", name)
		}
	}
	var s Spent
	if !s.Spend(id, t0) || s.Spend(id, t0) || s.Spend(id, t0.Add(ChallengeLife+time.Second)) {
		t.Error("a challenge can be spent twice while it holds")
	}
	if !s.Spend(newID(), t0) {
		t.Error("another one cannot be spent")
	}
}

// The script in the browser does this work; the vector holds both to one form.
// web/test has the same one.
func TestWorkVector(t *testing.T) {
	const challenge = "vector"
	if got := Work(challenge); got != vectorAnswer {
		t.Errorf("Work(%q) = %s", challenge, got)
	}
	if !worked(challenge, vectorAnswer) {
		t.Error("the vector does not hold")
	}
}

func TestWaits(t *testing.T) {
	var w Waits
	b := newBook()
	first := w.Next(t0)
	if d := first.Ready.Sub(t0); d < minWait || d > minWait+2*time.Second {
		t.Errorf("the first waits %s", d)
	}
	last := first
	for range 5000 {
		next := w.Next(t0)
		if next.Ready.Before(last.Ready) {
			t.Fatal("who came later is served earlier")
		}
		last = next
	}
	if d := last.Ready.Sub(t0); d < maxWait-time.Second || d > maxWait+time.Second {
		t.Errorf("in a crowd one waits %s", d)
	}
	got, ok := b.OpenTicket(b.SealTicket(last), t0)
	if !ok || got.ID != last.ID || !got.Ready.Equal(last.Ready) {
		t.Errorf("OpenTicket = %+v, %v", got, ok)
	}
	if _, ok := b.OpenTicket(b.SealTicket(last), last.Ready.Add(ticketLife)); ok {
		t.Error("a ticket is good for ever")
	}
}

func TestModesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attack.json")
	m, err := OpenModes(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Mode{Site: "land.example", Reason: Overload, Note: "synthetic", By: "analyst:1", Since: t0, Until: t0.Add(time.Hour)}
	if err := m.Start(want); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(Mode{Site: "tax.example", Reason: Caution, Until: t0.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	again, err := OpenModes(path)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := again.Of("land.example", t0)
	if !ok || got.Note != want.Note || got.Auto() || !got.Until.Equal(want.Until) {
		t.Errorf("after a restart: %+v, %v", got, ok)
	}
	if all := again.All(t0.Add(2 * time.Minute)); len(all) != 1 {
		t.Errorf("modes in force: %+v", all)
	}
	over, err := again.Expired(t0.Add(2 * time.Minute))
	if err != nil || len(over) != 1 || over[0].Site != "tax.example" {
		t.Errorf("Expired = %+v, %v", over, err)
	}
	if mode, ok, err := again.End("land.example"); !ok || err != nil || mode.By != want.By {
		t.Errorf("End = %+v, %v, %v", mode, ok, err)
	}
	if last, err := OpenModes(path); err != nil || len(last.All(t0)) != 0 {
		t.Error("an ended mode is in force after a restart")
	}
}

func TestWatch(t *testing.T) {
	var w Watch
	now, c := t0, Counts{}
	run := func(seconds int, asked, away int64) (last Verdict) {
		for range seconds {
			now = now.Add(time.Second)
			c.Asked, c.Away = c.Asked+asked, c.Away+away
			last = w.Step(now, c)
		}
		return last
	}
	for _, step := range []struct {
		name        string
		seconds     int
		asked, away int64
		want        Verdict
	}{
		{"a busy day", 30, 500, 2, Calm},
		{"many refusals among many more answers", 30, 500, 100, Press},
		{"few requests, all refused", 30, 4, 4, Calm},
		{"a flood for a moment", 2, 100, 80, Press},
		{"a flood", 30, 500, 400, Alarm},
		{"a flood that is challenged away", 30, 500, 490, Alarm},
		{"it ebbs", 30, 100, 8, Press},
		{"it is over", 30, 100, 1, Calm},
	} {
		if got := run(step.seconds, step.asked, step.away); got != step.want {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
	}
	w.Rest(now)
	if got := run(30, 500, 400); got != Press {
		t.Errorf("after a person has ended it: %v, want %v", got, Press)
	}
	if got := run(int(restAfter/time.Second), 500, 400); got != Alarm {
		t.Errorf("much later: %v, want %v", got, Alarm)
	}
}

func FuzzOpen(f *testing.F) {
	b := newBook()
	room := RoomID("r")
	f.Add(b.Seal(Meet(home, t0)), "1.2")
	f.Add(b.Challenge(home, t0), vectorAnswer)
	f.Add("", "....")
	f.Fuzz(func(t *testing.T, text, answer string) {
		if p, ok := b.Open(text, t0); ok && b.Seal(p) != text {
			t.Errorf("%q opens and is not what Seal writes", text)
		}
		_, c := b.OpenTicket(text, t0)
		_, d := b.OpenPlace(text, room)
		_, e := b.OpenAdmission(text, room, t0)
		_, s := b.Solved(text, answer, home, t0)
		if c || d || e || s {
			t.Errorf("%q opens: %v %v %v %v", text, c, d, e, s)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	book, c := newBook(), NewCarriers()
	text := book.Seal(Earned(Solved, newID(), home, t0))
	now := t0
	b.ReportAllocs()
	for b.Loop() {
		p, ok := book.Open(text, now)
		now = now.Add(200 * time.Millisecond)
		if now.Sub(t0) > time.Hour {
			now = t0
		}
		if !ok || !c.Carry(p.ID, p.Home, home, now) && now == t0 {
			b.Fatal("the pass does not hold")
		}
	}
}

func BenchmarkSolved(b *testing.B) {
	book := newBook()
	challenge := book.Challenge(home, t0)
	answer := Work(challenge)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := book.Solved(challenge, answer, home, t0); !ok {
			b.Fatal("not accepted")
		}
	}
}

func BenchmarkWork(b *testing.B) {
	book := newBook()
	for b.Loop() {
		Work(book.Challenge(home, t0))
	}
}
