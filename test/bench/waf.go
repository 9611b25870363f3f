package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"pasban/internal/gateway/waf/waftest"
)

// What one sample aims at: long enough for /proc's steps of 10 ms.
const (
	targetCPU   = 0.6 // seconds of the peer's processor time
	hostileCPU  = 0.15
	maxMessages = 100 * block
	attackCount = 400
)

// languages are compared in letters of that many bytes.
const letterBytes = 2000

// sizes of ordinary and hostile bodies, in bytes.
func sizes() []int { return []int{4000, 64000} }

// series is one workload for one peer.
type series struct {
	workload string
	peer     string
	send     workload
	least    int     // messages in a sample, at least
	target   float64 // seconds of CPU in a sample
	every    int     // the number of messages is a multiple of it
}

// found are the samples of the whole run: by workload, peer and round.
type found map[string]map[string][]sample

// Names of the workloads.
const (
	benignLoad = "benign mix"
	mixedLoad  = "with attacks and letters"
	attackLoad = "attacks only"
)

func letterLoad(how waftest.Lettering, l waftest.Language) string {
	return fmt.Sprintf("letters %d in language %d", how, l)
}

// bodyPeer is the firewall that gets a kind of body.
func bodyPeer(b waftest.Body) string {
	if b.Hostile {
		return strained
	}
	return unstrained
}

func bodyLoad(b waftest.Body, n int) string { return fmt.Sprintf("%s, %d bytes", b.Name, n) }

// plan lists all series in the order in which a round runs them: those that
// are compared with each other stand together.
func plan(attacks []message) (all []series) {
	add := func(workload string, send workload, names ...string) {
		for _, name := range names {
			all = append(all, series{workload, name, send, 2 * block, targetCPU, block})
		}
	}
	add(benignLoad, benignMix, plainProxy, gatewayOff, gatewayOn, firewall, modSecurity, corazaAlone)
	add(mixedLoad, mixed(attacks), gatewayOn, firewall, modSecurity, corazaAlone)
	add(attackLoad, attacksOnly(attacks), gatewayOn, firewall, modSecurity, corazaAlone)
	for _, how := range []waftest.Lettering{waftest.AsJSON, waftest.FormByWire, waftest.FormByText} {
		for _, name := range []string{gatewayOn, corazaAlone} {
			for _, l := range []waftest.Language{waftest.English, waftest.Urdu} {
				all = append(all, series{letterLoad(how, l), name, func(i int) message {
					return written(waftest.Compared(base, i, l, how, letterBytes))
				}, 40, targetCPU / 2, 1})
			}
		}
	}
	for _, n := range sizes() {
		for _, b := range waftest.Bodies() {
			all = append(all, series{bodyLoad(b, n), bodyPeer(b), func(i int) message {
				return written(b.Request(base, i, n))
			}, 2, hostileCPU, 1})
		}
	}
	add(benignLoad, benignMix, unstrained, strained)
	return all
}

// compareFirewalls runs every series once a round, for so many rounds.
func compareFirewalls(ctx context.Context, dir string, rounds int) (*firewalls, error) {
	all, err := startPeers(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer all.stop()
	attacks, err := attackMessages(ctx, []*peer{all[gatewayOn], all[firewall], all[modSecurity], all[corazaAlone]}, attackCount)
	if err != nil {
		return nil, err
	}
	list := plan(attacks)
	f := &firewalls{rounds: rounds, seen: found{}}
	counts := make([]int, len(list))
	for i, s := range list {
		if counts[i], err = calibrate(all[s.peer], s); err != nil {
			return nil, err
		}
	}
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "firewalls: round %d of %d\n", round+1, rounds)
		for k := range list {
			i := k
			if round%2 == 1 {
				i = len(list) - 1 - k // what comes first gains or loses by it only every other time
			}
			s := list[i]
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			got, err := all[s.peer].drive(s.messages((round+1)*maxMessages, counts[i]))
			if err == nil {
				err = got.check(s)
			}
			if err != nil {
				return nil, err
			}
			if f.seen[s.workload] == nil {
				f.seen[s.workload] = map[string][]sample{}
			}
			f.seen[s.workload][s.peer] = append(f.seen[s.workload][s.peer], got)
		}
	}
	f.memory = map[string]memory{}
	for name, p := range all {
		if f.memory[name], err = p.memory(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (s series) messages(from, n int) []message {
	list := make([]message, n)
	for i := range list {
		list[i] = s.send(from + i)
	}
	return list
}

// calibrate warms a peer up and finds out how many messages cost the aimed
// processor time.
func calibrate(p *peer, s series) (int, error) {
	got, err := p.drive(s.messages(0, s.least))
	if err != nil {
		return 0, err
	}
	for n := s.least; got.cpu.Seconds() < s.target/4 && n < maxMessages/4; {
		n *= 4
		if got, err = p.drive(s.messages(n, n)); err != nil {
			return 0, err
		}
	}
	n := s.target / max(got.cpu.Seconds()/float64(got.requests), 1e-6)
	return min(max(s.least, int(n)/s.every*s.every), maxMessages), nil
}

// check fails if a peer answered what makes its figure worthless: failures, or
// refusals for other reasons than the request's content.
func (s sample) check(of series) error {
	for status, n := range s.status {
		if status == 429 || status == 404 || status >= 500 {
			return fmt.Errorf("%s, %s: %d of %d requests were answered %d", of.peer, of.workload, n, s.requests, status)
		}
	}
	if s.passed > 0 {
		return fmt.Errorf("%s, %s: let %d attacks through", of.peer, of.workload, s.passed)
	}
	// Stock rules take some honest Urdu for an attack: that is counted, not
	// forbidden, where they are compared.
	strict := of.workload == benignLoad || of.peer == gatewayOn || of.peer == firewall
	if strict && s.refused > 0 {
		return fmt.Errorf("%s, %s: %d honest requests were refused: %v", of.peer, of.workload, s.refused, s.status)
	}
	return nil
}

// firewalls is what a run of the comparison found.
type firewalls struct {
	rounds int
	seen   found
	memory map[string]memory // by peer, after the run
}

// spread is a figure over the rounds.
type spread struct{ median, low, high float64 }

func spreadOf(v []float64) spread { return spread{median(v), slices.Min(v), slices.Max(v)} }

func (s spread) String() string {
	return fmt.Sprintf("%s (%s–%s)", figure(s.median), figure(s.low), figure(s.high))
}

// each is one figure of each sample of a series.
func (f *firewalls) each(workload, peer string, of func(sample) float64) (out []float64) {
	for _, s := range f.seen[workload][peer] {
		out = append(out, of(s))
	}
	return out
}

// ratio compares the processor time of two series, round by round.
func (f *firewalls) ratio(load, peer, thanLoad, thanPeer string) spread {
	a, b := f.each(load, peer, sample.perThousand), f.each(thanLoad, thanPeer, sample.perThousand)
	for i := range a {
		a[i] /= b[i]
	}
	return spreadOf(a)
}

// bodyCosts are, for one size, the ordinary bodies' cost per byte in
// nanoseconds, and each hostile kind's as a multiple of their median.
func (f *firewalls) bodyCosts(n int) (ordinary spread, kinds map[string]spread) {
	perByte := func(s sample) float64 { return float64(s.cpu.Nanoseconds()) / float64(s.bytes) }
	kinds = map[string]spread{}
	usual := make([]float64, f.rounds) // the median over ordinary kinds
	bodies := waftest.Bodies()
	for round := range usual {
		var costs []float64
		for _, b := range bodies {
			if !b.Hostile {
				costs = append(costs, perByte(f.seen[bodyLoad(b, n)][unstrained][round]))
			}
		}
		usual[round] = median(costs)
	}
	for _, b := range bodies {
		costs := f.each(bodyLoad(b, n), bodyPeer(b), perByte)
		for round := range costs {
			costs[round] /= usual[round]
		}
		kinds[b.Name] = spreadOf(costs)
	}
	return spreadOf(usual), kinds
}

// answers says how a workload's messages were answered, the commonest first.
func (f *firewalls) answers(workload, peer string) string {
	all := map[int]int{}
	for _, s := range f.seen[workload][peer] {
		for status, n := range s.status {
			all[status] += n
		}
	}
	var out []string
	for _, status := range slices.SortedFunc(maps.Keys(all), func(a, b int) int { return all[b] - all[a] }) {
		out = append(out, fmt.Sprint(status))
	}
	return strings.Join(out, ", ")
}
