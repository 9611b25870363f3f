package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"pasban/internal/gateway/waf/waftest"
)

// section is one part of the document.
type section struct{ title, text string }

// today stands in every section: they may be made on different days.
func today() string { return time.Now().UTC().Format("2 January 2006") }

// busy is how much else the machine did before a run: what a reader must know of
// figures that wait for processors and disks. It is "" where nobody counts that.
func busy() string {
	text, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(text)); err == nil && len(f) > 0 {
		return ", load average before it " + f[0]
	}
	return ""
}

// bar is a figure that is aimed at.
type bar struct {
	what  string
	got   spread
	least bool // the figure should be at least limit, else at most
	limit float64
	unit  string
}

func (b bar) String() string {
	sign, holds := "≤", b.got.median <= b.limit
	if b.least {
		sign, holds = "≥", b.got.median >= b.limit
	}
	verdict := "**no**"
	if holds {
		verdict = "yes"
	}
	return fmt.Sprintf("| %s | %v | %s %s%s | %s |\n", b.what, b.got, sign, strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", b.limit), "0"), "."), b.unit, verdict)
}

// bars are what the firewall is aimed at.
func (f *firewalls) bars() []bar {
	letters := func(what string, how waftest.Lettering) bar {
		return bar{"Urdu against ASCII, " + what + ": CPU", f.ratio(letterLoad(how, waftest.Urdu), gatewayOn, letterLoad(how, waftest.English), gatewayOn), false, 1.3, "×"}
	}
	allocs := func(load string) spread {
		return spreadOf(f.each(load, gatewayOn, func(s sample) float64 { return s.allocs / float64(s.requests) }))
	}
	resident := func(peer string) spread {
		m := f.memory[peer]
		return spread{m.resident / 1e6, m.resident / 1e6, m.peak / 1e6}
	}
	own := f.memory[gatewayOn]
	private := func(peer string) spread { return spreadOf([]float64{f.memory[peer].private / 1e6}) }
	all := []bar{
		{"mix with attacks and letters: Coraza alone against the gateway, CPU", f.ratio(mixedLoad, corazaAlone, mixedLoad, gatewayOn), true, 12, "×"},
		{"the same: Coraza against Pasban's firewall in the same server", f.ratio(mixedLoad, corazaAlone, mixedLoad, firewall), true, 12, "×"},
		{"the same: nginx with ModSecurity against the gateway", f.ratio(mixedLoad, modSecurity, mixedLoad, gatewayOn), true, 6, "×"},
		{"benign mix: requests per CPU-second, firewall on against off (hoped for: 0.5×)", f.ratio(benignLoad, gatewayOff, benignLoad, gatewayOn), true, 0.2, "×"},
		{"benign mix: gateway with the firewall off against a plain proxy, CPU", f.ratio(benignLoad, gatewayOff, benignLoad, plainProxy), false, 1.2, "×"},
		{"attacks only: Coraza alone against the gateway, CPU", f.ratio(attackLoad, corazaAlone, attackLoad, gatewayOn), true, 2, "×"},
		{"the same: Coraza against Pasban's firewall in the same server", f.ratio(attackLoad, corazaAlone, attackLoad, firewall), true, 2, "×"},
		letters("JSON of equal bytes", waftest.AsJSON),
		letters("forms of equal bytes on the wire", waftest.FormByWire),
		letters("forms of equal bytes of text, three times as many on the wire", waftest.FormByText),
	}
	for _, n := range sizes() {
		worst, name := spread{}, ""
		_, kinds := f.bodyCosts(n)
		for _, b := range waftest.Bodies() {
			if b.Hostile && kinds[b.Name].median > worst.median {
				worst, name = kinds[b.Name], b.Name
			}
		}
		all = append(all, bar{fmt.Sprintf("hostile bodies of %d bytes: the worst kind's CPU per byte (%s)", n, name), worst, false, 5, "×"})
	}
	return append(all,
		bar{"benign mix: allocations per request, firewall on", allocs(benignLoad), false, 1000, ""},
		bar{"mix with attacks and letters: allocations per request", allocs(mixedLoad), false, 1000, ""},
		bar{"gateway: resident memory after the run, and its peak, in MB", spread{own.own / 1e6, own.own / 1e6, own.ownPeak / 1e6}, false, 150, ""},
		bar{"the same with the process of its store of events", resident(gatewayOn), false, 150, ""},
		bar{"of that private: the rest is the program's file, which both processes map", private(gatewayOn), false, 150, ""},
		bar{"firewall under hostile bodies: resident memory, and its peak", resident(strained), false, 150, ""},
		bar{"of that private", private(strained), false, 150, ""})
}

// sections writes what was found.
func (f *firewalls) sections() []section {
	about := fmt.Sprintf("%s; %d rounds, in each every line once, one after the other; figures are medians with minimum and maximum, ratios are taken within each round.\n\n`make bench ARGS='-only firewalls -rounds %[2]d'`\n\n", today(), f.rounds)
	return []section{
		{"The firewall and its peers", fmt.Sprintf("Each server is a process of its own before the same upstream; what is compared is its processor time, user and system, as /proc counts it, children included. "+
			"%d keep-alive connections send one request after the other. All have the same rules (Core Rule Set, paranoia level 1, blocking, requests and answers inspected, bodies up to 1 MiB). "+
			"The plain proxy, Coraza alone and the firewall alone are one and the same Go server with nothing, Coraza or Pasban's firewall before its proxy; the gateway is `pasban serve` with its journal, ledger, detection and store of events, through which every blocked request goes; the store is a process of its own, and counts. "+
			"The mixed workload is the benign mix with 5 %% attacks, drawn from those of the rules' own suite that every firewall refuses, and 20 %% letters in Urdu and Persian of 500 to 4,000 bytes. With: %s. ", connections, wafVersions()) + about + f.costs()},
		{"What the firewall is aimed at", "From the same run. CPU means processor time per request. The last column says whether the median holds. " + about + f.barTable()},
		{"Hostile bodies", "Bodies built to thrash matchers: processor time per byte, as a multiple of the median over ordinary bodies of the same size. Ordinary and hostile ones go through a firewall alone each: what hostile ones leave in its caches must not lift the measure that they are held against. From the same run. " + about + f.bodyTable()},
	}
}

func (f *firewalls) costs() string {
	var b strings.Builder
	b.WriteString("| workload | server | CPU-seconds per 1,000 requests | requests/s | honest requests refused | client and upstream, µs a request |\n|---|---|---|---|---|---|\n")
	for _, load := range []string{benignLoad, mixedLoad, attackLoad} {
		for _, peer := range []string{plainProxy, gatewayOff, gatewayOn, firewall, modSecurity, corazaAlone} {
			if f.seen[load][peer] == nil {
				continue
			}
			refused, all := 0, 0
			for _, s := range f.seen[load][peer] {
				refused, all = refused+s.refused, all+s.requests
			}
			fmt.Fprintf(&b, "| %s | %s | %v | %s | %d of %d | %s |\n", load, peer, spreadOf(f.each(load, peer, sample.perThousand)),
				figure(median(f.each(load, peer, func(s sample) float64 { return float64(s.requests) / s.wall.Seconds() }))), refused, all,
				figure(median(f.each(load, peer, func(s sample) float64 { return float64(s.own.Microseconds()) / float64(s.requests) }))))
		}
	}
	b.WriteString("\n| server | resident after the run, MB | of it private | peak, MB | allocations per request, benign mix | mixed |\n|---|---|---|---|---|---|\n")
	for _, peer := range []string{plainProxy, gatewayOff, gatewayOn, firewall, unstrained, strained, modSecurity, corazaAlone} {
		allocs := func(load string) string {
			v := f.each(load, peer, func(s sample) float64 { return s.allocs / float64(s.requests) })
			if len(v) == 0 || v[0] <= 0 {
				return ""
			}
			return figure(median(v))
		}
		m := f.memory[peer]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", peer, figure(m.resident/1e6), figure(m.private/1e6), figure(m.peak/1e6), allocs(benignLoad), allocs(mixedLoad))
	}
	return b.String()
}

func (f *firewalls) barTable() string {
	var b strings.Builder
	b.WriteString("| what | median (min–max) | aim | holds |\n|---|---|---|---|\n")
	for _, bar := range f.bars() {
		b.WriteString(bar.String())
	}
	fmt.Fprintf(&b, "\nAfter hostile bodies a firewall takes %v× the processor time for the benign mix that one takes after ordinary bodies of the same sizes.\n", f.ratio(benignLoad, strained, benignLoad, unstrained))
	fmt.Fprintf(&b, "\nFor comparison, Urdu against ASCII on Coraza alone, which takes letters of Arabic script for punctuation: JSON %v×, forms %v× by bytes on the wire, %v× by bytes of text.\n",
		f.ratio(letterLoad(waftest.AsJSON, waftest.Urdu), corazaAlone, letterLoad(waftest.AsJSON, waftest.English), corazaAlone),
		f.ratio(letterLoad(waftest.FormByWire, waftest.Urdu), corazaAlone, letterLoad(waftest.FormByWire, waftest.English), corazaAlone),
		f.ratio(letterLoad(waftest.FormByText, waftest.Urdu), corazaAlone, letterLoad(waftest.FormByText, waftest.English), corazaAlone))
	return b.String()
}

func (f *firewalls) bodyTable() string {
	var b strings.Builder
	b.WriteString("| body |")
	costs := map[int]map[string]spread{}
	for _, n := range sizes() {
		var usual spread
		usual, costs[n] = f.bodyCosts(n)
		fmt.Fprintf(&b, " %d bytes (1× is %v ns a byte) | answered |", n, usual)
	}
	b.WriteString("\n|---|---|---|---|---|\n")
	for _, body := range waftest.Bodies() {
		kind := "ordinary: "
		if body.Hostile {
			kind = ""
		}
		fmt.Fprintf(&b, "| %s%s |", kind, body.Name)
		for _, n := range sizes() {
			fmt.Fprintf(&b, " %v | %s |", costs[n][body.Name], f.answers(bodyLoad(body, n), bodyPeer(body)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// wafVersions names the versions of everything that is compared.
func wafVersions() string {
	out := []string{fmt.Sprintf("%s, %s/%s, %d processors of a shared machine", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/corazawaf/coraza/v3":
				out = append(out, "Coraza "+m.Version)
			case "github.com/corazawaf/coraza-coreruleset/v4":
				out = append(out, "Core Rule Set "+m.Version)
			}
		}
	}
	text, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "nginx", "libnginx-mod-http-modsecurity", "libmodsecurity3", "libmodsecurity3t64").Output()
	if err == nil || len(text) > 0 {
		for line := range bytes.Lines(text) {
			out = append(out, "Debian's "+strings.TrimSpace(string(line)))
		}
	}
	return strings.Join(out, "; ")
}
