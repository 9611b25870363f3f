package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

const (
	maxAnswer = 16 << 10 // bytes; a cosignature's line is some 150
	maxLines  = 16       // lines of an answer that are looked at
	maxReason = 200      // bytes of a refusal that are passed on
)

// Client asks one witness for cosignatures. It is safe for concurrent use.
type Client struct {
	name   string
	key    string // the verifier key
	url    string // of add-checkpoint
	policy *pasban.WitnessPolicy
	http   *http.Client
}

// NewClient makes a client of the witness with this verifier key (type 0x04)
// that answers at base, its submission prefix, such as https://witness.example/w1.
// The transport is nil for http.DefaultTransport.
func NewClient(vkey, base string, transport http.RoundTripper) (*Client, error) {
	p, err := pasban.NewWitnessPolicy(1, []string{vkey})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("%q is not a witness's address", base), Hint: "such as https://witness.example/w1"}
	}
	name, _, _ := strings.Cut(strings.TrimSpace(vkey), "+")
	return &Client{
		name: name, key: vkey, url: strings.TrimSuffix(base, "/") + "/add-checkpoint", policy: p,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Name is the witness's name, from its key.
func (c *Client) Name() string { return c.name }

// Key is the witness's verifier key.
func (c *Client) Key() string { return c.key }

// Find returns the first of the lines that is the witness's cosignature of the
// checkpoint signed, which bears the signature of v's ledger alone, and when it
// was made by the witness's clock; ok is false if there is none that holds.
func (c *Client) Find(signed, lines []byte, v note.Verifier) (line []byte, at time.Time, ok bool) {
	n := 0
	for line := range bytes.Lines(lines) {
		if n++; n > maxLines {
			break
		}
		if !bytes.HasPrefix(line, []byte("— "+c.name+" ")) || !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		if _, held, err := pasban.OpenCosigned(append(bytes.Clone(signed), line...), v, c.policy); err == nil {
			return line, held[0].Time, true
		}
	}
	return nil, time.Time{}, false
}

// Add asks the witness to cosign a checkpoint that v's ledger has signed: of a
// ledger of which the witness has cosigned old leaves (0 for none), with the proof
// that the checkpoint extends those (C2SP tlog-witness, add-checkpoint). signed
// bears the ledger's own signature alone. The line that it returns ends with a
// newline, can be appended to signed, and has been verified. What the witness
// answers instead is a *Refusal; an answer that is none is an error.
func (c *Client) Add(ctx context.Context, old int64, proof tlog.TreeProof, signed []byte, v note.Verifier) ([]byte, error) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	for _, h := range proof {
		fmt.Fprintln(&body, h)
	}
	body.WriteByte('\n')
	body.Write(signed)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, &body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	res, err := c.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address is in the configuration
		}
		return nil, fmt.Errorf("it cannot be reached: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("its answer was cut off: %w", err)
	}
	if len(answer) > maxAnswer {
		return nil, errors.New("its answer is too long")
	}
	return c.read(res.StatusCode, res.Header.Get("Content-Type"), answer, signed, v)
}

// read reads a witness's answer, which may be anything.
func (c *Client) read(status int, kind string, answer, signed []byte, v note.Verifier) ([]byte, error) {
	switch {
	case status == http.StatusOK:
		line, _, ok := c.Find(signed, answer, v)
		if !ok {
			return nil, errors.New("its answer has no cosignature that holds")
		}
		return line, nil
	case status == http.StatusConflict:
		text, _ := strings.CutSuffix(string(answer), "\n")
		size, err := strconv.ParseInt(text, 10, 64)
		if kind != "text/x.tlog.size" || err != nil || size < 0 || strconv.FormatInt(size, 10) != text {
			return nil, &Refusal{Status: status, Size: -1, Msg: "it answers that it has cosigned something else, but not what"}
		}
		return nil, &Refusal{Status: status, Size: size, Msg: fmt.Sprintf("it has cosigned %d leaves", size)}
	case status >= 400 && status < 500:
		return nil, &Refusal{Status: status, Msg: fmt.Sprintf("it answers %d: %s", status, printable(answer))}
	}
	return nil, fmt.Errorf("it answers %d: %s", status, printable(answer))
}

// printable is what of a stranger's text may stand in a log or on a page.
func printable(text []byte) string {
	text = text[:min(len(text), maxReason)]
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), " ")))
}
