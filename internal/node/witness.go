package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/ledger"
	"pasban/internal/ledger/witness"
	"pasban/internal/trust"
)

// cosigners are those whom the ledger asks.
func cosigners(cfg *config.Config) (ledger.Witnesses, error) {
	c := cfg.Ledger.Witnesses
	w := ledger.Witnesses{Need: c.Need}
	if len(c.Of) == 0 {
		return w, nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return w, &pasban.Error{Kind: pasban.Invalid, Where: cfg.File + ": ledger.witnesses.ca_file", Msg: "the file cannot be read", Err: err}
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return w, &pasban.Error{Kind: pasban.Invalid, Where: cfg.File + ": ledger.witnesses.ca_file", Msg: "no certificate in " + c.CAFile, Hint: "a PEM file"}
		}
	}
	for _, m := range c.Of {
		client, err := witness.NewClient(m.Key, m.URL, transport)
		if err != nil {
			return w, err
		}
		w.Of = append(w.Of, client)
	}
	return w, nil
}

// cosignerKeys are the verifier keys of those whom the ledger asks.
func cosignerKeys(cfg *config.Config) []string {
	out := []string{} // never null in JSON
	for _, m := range cfg.Ledger.Witnesses.Of {
		out = append(out, m.Key)
	}
	return out
}

// watch is this node as a witness for the ledgers of others. It is nil, and does
// nothing, where it watches none.
type watch struct {
	*witness.Witness
	key     string
	agency  string
	journal *journal.Journal
	stopped func() error // the ledger's word on whether it is itself an old copy
	log     *slog.Logger
}

// openWatch opens the node's own witness. Its memory is made with its key, at the
// first start; after that neither is made again without the other.
func openWatch(cfg *config.Config, ring *keys.Ring, j *journal.Journal, l *ledger.Ledger, log *slog.Logger) (*watch, error) {
	if len(cfg.Witness.Logs) == 0 {
		return nil, nil
	}
	dir := filepath.Join(cfg.Data, "witness")
	_, err := os.Stat(dir)
	first := errors.Is(err, fs.ErrNotExist)
	signer, key, err := ring.WitnessSigner(cfg.Witness.Name, first)
	if err != nil {
		return nil, err
	}
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	var logs []note.Verifier
	for _, c := range cfg.Witness.Logs {
		v, err := note.NewVerifier(c.Key)
		if err != nil {
			return nil, fmt.Errorf("the key of a ledger to watch: %w", err)
		}
		logs = append(logs, v)
	}
	w := &watch{key: key, agency: cfg.Agency.ID, journal: j, stopped: l.Stopped, log: log}
	w.Witness, err = witness.New(dir, signer, logs, witness.Options{Log: log, Alarm: w.alarm})
	return w, err
}

// alarm makes a fact of what somebody else's ledger did.
func (w *watch) alarm(a witness.Alarm) {
	f := pasban.NewFact(pasban.KindAlarm, w.agency, pasban.Actor{ID: "witness", Kind: pasban.ActorSystem}, time.Now())
	f.Body.Resource, f.Body.Action = a.Origin, "foreign-fork" // without a service: each ledger is an alert of its own
	if !a.Forked {
		f.Body.Action = "foreign-doubt"
	}
	f.Body.Mode = pasban.ModeAutomatic
	f.Restricted.Reasons = []string{fmt.Sprintf("the ledger %s: %s", a.Origin, a.Problem)}
	f.Restricted.More = map[string]string{"origin": a.Origin, "problem": a.Problem, "size": fmt.Sprint(a.Size), "seen": fmt.Sprint(a.Seen)}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := w.journal.Record(ctx, f); err != nil {
		w.log.Error("an alarm about a watched ledger cannot be recorded", "ledger", a.Origin, "problem", a.Problem, "err", err)
	}
}

// mount serves /ledger/add-checkpoint, and at /ledger/witness what was seen. A
// node that found itself to be an old copy is one as a witness too: it would
// cosign what it has forgotten, so it cosigns nothing.
func (w *watch) mount(own *http.ServeMux) {
	if w == nil {
		return
	}
	ask := http.StripPrefix("/ledger", w.Handler())
	own.HandleFunc("POST /ledger/add-checkpoint", func(rw http.ResponseWriter, r *http.Request) {
		if w.stopped() != nil {
			http.Error(rw, "this witness does not cosign: its own ledger has stopped", http.StatusServiceUnavailable)
			return
		}
		ask.ServeHTTP(rw, r)
	})
	own.HandleFunc("GET /ledger/witness", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		json.NewEncoder(rw).Encode(w.Status())
	})
}

func (w *watch) close() error {
	if w == nil || w.Witness == nil {
		return nil
	}
	return w.Witness.Close()
}

// trusted is the witness as the public is told of it.
func (w *watch) trusted() *trust.Watch {
	if w == nil {
		return nil
	}
	t := &trust.Watch{Key: w.key}
	for _, l := range w.Status().Logs {
		t.Logs = append(t.Logs, l.Origin)
	}
	return t
}

// Witnessing is how the ledger stands with its witnesses, in a status.
type Witnessing struct {
	Need         int       `json:"need"`
	Final        uint64    `json:"final"`                   // leaves under the newest final checkpoint
	FinalSeconds *float64  `json:"final_seconds,omitempty"` // how long ago it became final; absent if there is none
	LagSeconds   float64   `json:"lag_seconds"`             // for how long checkpoints have not been final
	Of           []Witness `json:"of"`
}

// Witness is one of those who cosign this ledger.
type Witness struct {
	Name    string   `json:"name"`
	Size    uint64   `json:"size"`              // leaves that it has cosigned last
	Seconds *float64 `json:"seconds,omitempty"` // how long ago; absent if not since the start
	Problem string   `json:"problem,omitempty"`
}

// witnessing is the figure, nil without witnesses, and the parts' words. A witness
// that is away does not close guarded routes: what they did is in the ledger, and
// becomes final when it is back. Only the ledger itself can say more.
func witnessing(w ledger.Witnessing, now time.Time) (*Witnessing, []Part) {
	if w.Need == 0 {
		return nil, nil
	}
	ago := func(t time.Time) *float64 {
		if t.IsZero() {
			return nil
		}
		return new(now.Sub(t).Seconds())
	}
	f := &Witnessing{Need: w.Need, Final: w.Size, FinalSeconds: ago(w.Final), LagSeconds: w.Lag.Seconds()}
	p := Part{Part: "witnesses", OK: w.Problem == nil}
	if w.Problem != nil {
		p.Reason = w.Problem.Error()
	}
	parts := []Part{p}
	for _, m := range w.Of {
		one := Witness{Name: m.Name, Size: m.Size, Seconds: ago(m.Cosigned)}
		p := Part{Part: "witness " + m.Name, OK: m.Err == nil}
		if m.Err != nil {
			one.Problem = m.Err.Error()
			p.Reason = one.Problem
		}
		f.Of, parts = append(f.Of, one), append(parts, p)
	}
	return f, parts
}
