package witness

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	maxRequest = 64 << 10 // bytes; 63 lines of proof are under 3 KiB
	maxProof   = 63       // lines (C2SP tlog-witness)
)

// request is the body of add-checkpoint. Nothing of it is verified.
type request struct {
	old    int64
	proof  tlog.TreeProof
	origin string
	signed []byte // the checkpoint
}

func parseRequest(body []byte) (req request, err error) {
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return req, errors.New("no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	if !ok {
		return req, errors.New("the first line is not an old size")
	}
	if req.old, err = strconv.ParseInt(size, 10, 64); err != nil || req.old < 0 || strconv.FormatInt(req.old, 10) != size {
		return req, errors.New("the old size is not a number")
	}
	if len(lines)-1 > maxProof {
		return req, fmt.Errorf("more than %d lines of proof", maxProof)
	}
	for _, l := range lines[1:] {
		h, err := tlog.ParseHash(l)
		if err != nil || h.String() != l {
			return req, errors.New("a line of the proof is not a hash")
		}
		req.proof = append(req.proof, h)
	}
	req.signed = signed
	req.origin, _, ok = strings.Cut(string(signed), "\n")
	if !ok || req.origin == "" {
		return req, errors.New("the checkpoint has no origin")
	}
	return req, nil
}

// Handler serves add-checkpoint, and at / what was seen of each ledger.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", w.addCheckpoint)
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		json.NewEncoder(rw).Encode(w.Status())
	})
	return mux
}

func (w *Witness) addCheckpoint(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			http.Error(rw, "the request is too large", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(rw, "the request was cut off", http.StatusBadRequest)
		return
	}
	line, err := w.cosign(body)
	ref, refused := errors.AsType[*Refusal](err)
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		rw.Write(line)
	case refused && ref.Status == http.StatusConflict:
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(ref.Status)
		fmt.Fprintf(rw, "%d\n", ref.Size)
	case refused:
		http.Error(rw, ref.Msg, ref.Status)
	default:
		w.log.Error("a checkpoint could not be cosigned", "err", err)
		http.Error(rw, "the witness cannot keep what it sees", http.StatusServiceUnavailable)
	}
}

// Status is what a witness has seen.
type Status struct {
	Schema  string      `json:"schema"` // pasban.witness.v1
	Witness string      `json:"witness"`
	Logs    []LogStatus `json:"logs"` // by origin
}

// LogStatus is what a witness has seen of one ledger.
type LogStatus struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"` // of the newest checkpoint cosigned, 0 for none
	Root   string `json:"root,omitempty"`
	Forked bool   `json:"forked"` // proof of two roots for one size is kept
}

// Status tells what was seen.
func (w *Witness) Status() Status {
	s := Status{Schema: "pasban.witness.v1", Witness: w.signer.Name(), Logs: []LogStatus{}}
	for origin, k := range w.logs {
		k.mu.Lock()
		l := LogStatus{Origin: origin, Size: k.tree.N, Forked: k.forked}
		if l.Size > 0 {
			l.Root = k.tree.Hash.String()
		}
		k.mu.Unlock()
		s.Logs = append(s.Logs, l)
	}
	slices.SortFunc(s.Logs, func(a, b LogStatus) int { return cmp.Compare(a.Origin, b.Origin) })
	return s
}
