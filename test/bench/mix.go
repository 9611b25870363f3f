package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"pasban/internal/gateway/waf/waftest"
)

const base = "http://land.example"

// A workload is an endless series of messages that depends on nothing but the
// number of each.
type workload func(i int) message

func benignMix(i int) message { return written(waftest.Benign(base, i)) }

// block is how many messages of a workload have the same make-up as any other
// such number: eighty of the mixed one are sixty of the four benign kinds,
// sixteen letters of the eight sizes, and four attacks.
const block = 80

// mixed is the mix for comparing firewalls: of twenty messages one is an
// attack, four are letters in Urdu and Persian, the rest the benign mix.
func mixed(attacks []message) workload {
	return func(i int) message {
		turn, at := i/20, i%20
		switch {
		case at == 10:
			return attack(attacks, turn)
		case at%5 == 2:
			return written(waftest.Letter(base, 4*turn+at/5))
		}
		before := 0 // messages of this twenty that are not benign and come first
		for _, other := range []int{2, 7, 10, 12, 17} {
			if other < at {
				before++
			}
		}
		return benignMix(15*turn + at - before)
	}
}

func attacksOnly(attacks []message) workload {
	return func(i int) message { return attack(attacks, i) }
}

var anyCookie = regexp.MustCompile(`(?i)\r\ncookie:`)

// attack is attack i, with a session of its own: no two are the same.
func attack(attacks []message, i int) message {
	m := attacks[i%len(attacks)]
	if head, body, ok := bytes.Cut(m.raw, []byte("\r\n\r\n")); ok && !anyCookie.Match(head) {
		rng := rand.New(rand.NewPCG(2026, uint64(i)))
		m.raw = fmt.Appendf(nil, "%s\r\nCookie: session=%s\r\n\r\n%s", head, waftest.Session(rng), body)
	}
	return m
}

var closing = regexp.MustCompile(`(?i)\r\nconnection:[^\r]*`)

// attackMessages draws n attacks from the Core Rule Set's suite: well-formed
// requests which every firewall under test refuses, so that all have the same
// work with them.
func attackMessages(ctx context.Context, firewalls []*peer, n int) ([]message, error) {
	cases, err := waftest.Load()
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(2026, 1))
	rng.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	clients := make([]*client, len(firewalls))
	for i, p := range firewalls {
		clients[i] = &client{addr: p.addr}
		defer clients[i].close()
	}
	var out []message
	for _, c := range cases {
		if len(out) == n {
			return out, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, ok := keptAlive(c.Raw)
		if !c.Attack || c.Level > 1 || !ok {
			continue
		}
		if !slices.ContainsFunc(clients, func(p *client) bool {
			status, err := p.send(m)
			return err != nil || status != http.StatusForbidden
		}) {
			out = append(out, m)
		}
	}
	return nil, fmt.Errorf("only %d of the suite's attacks are refused by all firewalls, want %d", len(out), n)
}

// keptAlive is the request without its wish to close the connection; ok is
// false if it is not one whole request of HTTP/1.1.
func keptAlive(raw []byte) (m message, ok bool) {
	head, body, found := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !found {
		return m, false
	}
	raw = slices.Concat(closing.ReplaceAll(head, nil), []byte("\r\n\r\n"), body)
	in := bufio.NewReader(bytes.NewReader(raw))
	r, err := http.ReadRequest(in)
	if err != nil || !r.ProtoAtLeast(1, 1) || len(r.TransferEncoding) > 0 || r.Header.Get("Expect") != "" || strings.Contains(r.Header.Get("Upgrade"), "h2c") {
		return m, false
	}
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n != int64(len(body)) || in.Buffered() > 0 {
		return m, false
	}
	return message{raw: raw, method: r.Method, attack: true}, true
}
