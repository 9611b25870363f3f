package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

func client(t testing.TB, vkey, base string) *Client {
	t.Helper()
	c, err := NewClient(vkey, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// proof shows that the ledger extends its first n leaves.
func (l *ledger) proof(n int64) tlog.TreeProof {
	if n == 0 || n == l.n {
		return nil
	}
	p, err := tlog.ProveTree(l.n, n, l)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// TestClient asks a real witness over HTTP for everything that it may answer.
func TestClient(t *testing.T) {
	l, v := newLedger(t)
	stranger, strange := newLedger(t)
	dir, vkey := initDir(t)
	w := open(t, dir, v)
	srv := httptest.NewServer(http.StripPrefix("/w1", w.Handler()))
	defer srv.Close()
	c := client(t, vkey, srv.URL+"/w1")
	policy, err := pasban.NewWitnessPolicy(1, []string{vkey})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(l *ledger, v note.Verifier, old int64) error {
		t.Helper()
		signed := []byte(l.checkpoint())
		line, err := c.Add(t.Context(), old, l.proof(old), signed, v)
		if err != nil {
			return err
		}
		if _, _, err := pasban.OpenCosigned(append(signed, line...), v, policy); err != nil {
			t.Error(err)
		}
		return nil
	}
	refused := func(err error, status int, size int64) {
		t.Helper()
		r, ok := errors.AsType[*Refusal](err)
		if !ok || r.Status != status || r.Size != size {
			t.Errorf("%v (%+v), want %d and size %d", err, r, status, size)
		}
	}
	if err := ask(l, v, 0); err != nil { // no leaves at all
		t.Error(err)
	}
	l.add("a", "b", "c")
	if err := ask(l, v, 0); err != nil {
		t.Error(err)
	}
	forked := l.fork(1)
	forked.add("B", "C")
	refused(ask(forked, v, 3), 409, 3)
	forked.add("D")
	refused(ask(forked, v, 3), 422, 0)
	refused(ask(l.fork(2), v, 0), 409, 3)
	stranger.add("a")
	refused(ask(stranger, strange, 0), 403, 0)
	l.add("d")
	refused(ask(l, v, 0), 409, 3)
	if err := ask(l, v, 3); err != nil {
		t.Error(err)
	}

	// Nobody there, and one who is told not to wait.
	srv.Close()
	if err := ask(l, v, 4); err == nil || !strings.HasPrefix(err.Error(), "it cannot be reached: ") {
		t.Errorf("nobody there: %v", err)
	}
	late := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer late.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client(t, vkey, late.URL).Add(ctx, 0, nil, []byte(l.checkpoint()), v); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// TestGarbage: whatever a server answers, only a cosignature that holds is one.
func TestGarbage(t *testing.T) {
	l, v := newLedger(t)
	l.add("a", "b")
	dir, vkey := initDir(t)
	w := open(t, dir, v)
	signed := l.checkpoint()
	status, good, _ := post(t, w, l.request(0))
	if status != 200 {
		t.Fatal(status, good)
	}
	otherDir, _ := initDir(t) // of the same name, another key
	_, foreign, _ := post(t, open(t, otherDir, v), l.request(0))
	l.add("c")
	_, later, _ := post(t, w, l.request(2)) // of another checkpoint

	var answer func(w http.ResponseWriter)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, good) }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	defer srv.Close()
	c := client(t, vkey, srv.URL)
	says := func(status int, kind, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	const sizes = "text/x.tlog.size"
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		want   string // of the error; "" for a cosignature
		status int    // of a refusal
	}{
		"good":                     {says(200, "text/plain", good), "", 0},
		"good among others":        {says(200, "text/plain", foreign+later+"— x y\n"+good), "", 0},
		"empty":                    {says(200, "text/plain", ""), "no cosignature that holds", 0},
		"a page":                   {says(200, "text/html", "<html>"+strings.Repeat("\x00— ", 50)), "no cosignature that holds", 0},
		"cut off":                  {says(200, "text/plain", good[:len(good)-4]), "no cosignature that holds", 0},
		"without its newline":      {says(200, "text/plain", strings.TrimSuffix(good, "\n")), "no cosignature that holds", 0},
		"of another key":           {says(200, "text/plain", foreign), "no cosignature that holds", 0},
		"of another checkpoint":    {says(200, "text/plain", later), "no cosignature that holds", 0},
		"behind too many lines":    {says(200, "text/plain", strings.Repeat("— x y\n", maxLines)+good), "no cosignature that holds", 0},
		"too long":                 {says(200, "text/plain", strings.Repeat(good, maxAnswer/len(good)+1)), "too long", 0},
		"a size":                   {says(409, sizes, "77\n"), "it has cosigned 77 leaves", 409},
		"a size without its type":  {says(409, "text/plain", "77\n"), "but not what", 409},
		"a negative size":          {says(409, sizes, "-1\n"), "but not what", 409},
		"a size of garbage":        {says(409, sizes, "7 7\n"), "but not what", 409},
		"a size with zeroes":       {says(409, sizes, "007\n"), "but not what", 409},
		"a size beyond all bounds": {says(409, sizes, "99999999999999999999\n"), "but not what", 409},
		"unknown ledger":           {says(404, "text/plain", "who?\n\x1b[31mred"), "it answers 404: who?  [31mred", 404},
		"broken":                   {says(500, "text/plain", strings.Repeat("x", 1000)), "it answers 500: " + strings.Repeat("x", maxReason), 0},
		"nothing":                  {says(204, "", ""), "it answers 204", 0},
		"a redirection": {func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "it answers 307", 0},
		"a connection that breaks": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, good)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "cut off", 0},
	} {
		answer = tc.answer
		line, err := c.Add(t.Context(), 0, nil, []byte(signed), v)
		r, refused := errors.AsType[*Refusal](err)
		switch {
		case tc.want == "" && (err != nil || string(line) != good):
			t.Errorf("%s: %q, %v", name, line, err)
		case tc.want != "" && (err == nil || line != nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %q, %v; want an error with %q", name, line, err, tc.want)
		case refused != (tc.status != 0) || refused && r.Status != tc.status:
			t.Errorf("%s: refused %v", name, err)
		}
	}
	if _, err := NewClient("witness.example/w1", "https://witness.example/w1", nil); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("not a key: %v", err)
	}
	for _, bad := range []string{"", "witness.example", "ftp://witness.example", "https://w/?x", "https:///x", "https://user@w/"} {
		if _, err := NewClient(vkey, bad, nil); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzAnswer gives the client any answer: it takes nothing for a cosignature that
// does not hold, and for a refusal nothing that does not say why.
func FuzzAnswer(f *testing.F) {
	l, v := newLedger(f)
	dir, vkey := initDir(f)
	w := open(f, dir, v)
	l.add("a", "b", "c")
	_, good, _ := post(f, w, l.request(0))
	signed := []byte(l.checkpoint())
	policy, err := pasban.NewWitnessPolicy(1, []string{vkey})
	if err != nil {
		f.Fatal(err)
	}
	c := client(f, vkey, "https://witness.example/w1")
	f.Add(200, "text/plain", good)
	f.Add(200, "text/plain", "— witness.example/w1 AAAA\n"+good)
	f.Add(409, "text/x.tlog.size", "3\n")
	f.Add(422, "", "\x00")
	f.Fuzz(func(t *testing.T, status int, kind, answer string) {
		line, err := c.read(status, kind, []byte(answer), signed, v)
		r, refused := errors.AsType[*Refusal](err)
		switch {
		case err == nil:
			if _, _, err := pasban.OpenCosigned(append(signed[:len(signed):len(signed)], line...), v, policy); err != nil {
				t.Fatalf("%q does not hold: %v", line, err)
			}
		case line != nil:
			t.Fatalf("%q beside %v", line, err)
		case refused && (r.Status < 400 || r.Status > 499 || r.Size < -1 || r.Size != 0 && r.Status != 409):
			t.Fatalf("%+v", r)
		case strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }):
			t.Fatalf("%q cannot be printed", err)
		}
	})
}

// TestAlarm: a fork is told at once and once; a proof that does not hold only if
// the ledger is not cosigned for a while, because strangers can send those.
func TestAlarm(t *testing.T) {
	l, v := newLedger(t)
	dir, _ := initDir(t)
	w := open(t, dir, v)
	var alarms []Alarm
	w.alarm = func(a Alarm) { alarms = append(alarms, a) }
	l.add("a", "b", "c")
	post(t, w, l.request(0))
	earlier := l.fork(3)
	forked := l.fork(1)
	forked.add("B", "C")
	post(t, w, forked.request(3))
	post(t, w, forked.request(3))
	if len(alarms) != 1 || !alarms[0].Forked || alarms[0].Origin != "land.example/ledger" || alarms[0].Size != 3 {
		t.Errorf("%+v", alarms)
	}
	l.add("d")
	if status, _, _ := post(t, w, l.request(3)); status != 200 {
		t.Fatal(status)
	}
	alarms = nil
	synctest.Test(t, func(t *testing.T) {
		longer := earlier.fork(3)
		longer.add("D", "E")
		wrong := strings.Replace(longer.request(3), "old 3", "old 4", 1)
		refuse := func() {
			t.Helper()
			if status, _, _ := post(t, w, wrong); status != 422 {
				t.Fatal(status)
			}
		}
		refuse()
		time.Sleep(doubtFor / 2)
		refuse()
		post(t, w, l.request(4)) // cosigned anew: the doubt was a stranger's
		time.Sleep(doubtFor)
		refuse()
		if len(alarms) != 0 {
			t.Errorf("a stranger gave an alarm: %+v", alarms)
		}
		time.Sleep(doubtFor)
		refuse()
		refuse()
		if len(alarms) != 1 || alarms[0].Forked || alarms[0].Size != 5 || alarms[0].Seen != 4 {
			t.Errorf("%+v", alarms)
		}
	})
}

// TestNew is the witness of a node: the signer is the caller's.
func TestNew(t *testing.T) {
	l, v := newLedger(t)
	dir, vkey := initDir(t)
	stand := open(t, dir, v)
	signer := stand.signer
	stand.Close()
	if _, err := New(dir+"x", signer, nil, Options{}); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("without a directory: %v", err)
	}
	w, err := New(dir, signer, []note.Verifier{v}, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l.add("a")
	status, line, _ := post(t, w, l.request(0))
	if _, _, ok := client(t, vkey, "https://w.example").Find([]byte(l.checkpoint()), []byte(line), v); status != 200 || !ok {
		t.Errorf("%d %s", status, line)
	}
}
