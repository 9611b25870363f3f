package flood

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"
	"github.com/oschwald/maxminddb-golang/v2"

	"pasban"
)

// ListOptions say who is let in and who is not, whatever they ask for.
type ListOptions struct {
	Allow      []string // addresses and CIDRs that no limit and no list holds back
	Block      []string // addresses and CIDRs that are refused
	BlockFiles []string // files of those: one a line, # and ; begin comments
	Country    string   // MaxMind DB file with country.iso_code; "" for none
	// AllowCountries are the only ones let in, if there are any; BlockCountries
	// are refused. ISO 3166-1 alpha-2. Addresses that are not public have none.
	AllowCountries, BlockCountries []string
}

// Lists are what ListOptions name, read. They do not change.
type Lists struct {
	options ListOptions
	allow   bart.Lite
	block   bart.Table[string] // why
	country *maxminddb.Reader
	stamps  map[string]stamp // of the files
}

// stamp is how a file is known to be the same.
type stamp struct {
	size int64
	mod  time.Time
}

// maxList is the largest file that is read, in bytes.
const maxList = 256 << 20

// LoadLists reads the lists. Its error is a *pasban.Error that names the file
// and line.
func LoadLists(o ListOptions) (*Lists, error) {
	l := &Lists{options: o, stamps: map[string]stamp{}}
	for _, s := range o.Allow {
		p, err := ParseBlock(s)
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Msg: err.Error(), Where: "limits.allow"}
		}
		l.allow.Insert(p)
	}
	for _, s := range o.Block {
		p, err := ParseBlock(s)
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Msg: err.Error(), Where: "limits.block"}
		}
		l.block.Insert(p, "the list of blocked addresses")
	}
	for _, f := range o.BlockFiles {
		if err := l.feed(f); err != nil {
			return nil, err
		}
	}
	if o.Country != "" {
		data, err := l.read(o.Country)
		if err == nil {
			// Not mapped: a file that is replaced in place would kill the process.
			l.country, err = maxminddb.OpenBytes(data)
		}
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the country file is not usable", Where: o.Country, Err: err,
				Hint: "a MaxMind DB (.mmdb) with country.iso_code"}
		}
	}
	return l, nil
}

func (l *Lists) read(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxList {
		return nil, fmt.Errorf("%d bytes, want at most %d", info.Size(), maxList)
	}
	l.stamps[file] = stamp{info.Size(), info.ModTime()}
	return os.ReadFile(file)
}

// feed reads a file of addresses.
func (l *Lists) feed(file string) error {
	data, err := l.read(file)
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the list of addresses is not readable", Where: file, Err: err}
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := string(line)
		if i := strings.IndexAny(text, "#;"); i >= 0 {
			text = text[:i]
		}
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := ParseBlock(text)
		if err != nil {
			return &pasban.Error{Kind: pasban.Invalid, Msg: err.Error(), Where: fmt.Sprintf("%s:%d", file, n),
				Hint: "one address or CIDR a line; # begins a comment"}
		}
		l.block.Insert(p, filepath.Base(file))
	}
	return nil
}

// ParseBlock reads an address or a CIDR. A block wider than a registry gives
// anyone (IPv4 /8, IPv6 /16) is taken for a mistake: it would shut out nations.
func ParseBlock(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		if len(s) > 64 {
			s = s[:64] + "…"
		}
		return netip.Prefix{}, fmt.Errorf("not an address or CIDR: %q", s)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16 {
		return netip.Prefix{}, fmt.Errorf("%s is too wide", s)
	}
	return p.Masked(), nil
}

// verdict is what the lists say of an address.
type verdict struct {
	allowed bool
	blocked string // why; "" if it is not
}

func (l *Lists) of(a netip.Addr) verdict {
	if l == nil || !a.IsValid() {
		return verdict{}
	}
	if l.allow.Contains(a) {
		return verdict{allowed: true}
	}
	if why, ok := l.block.Lookup(a); ok {
		return verdict{blocked: why}
	}
	if l.country == nil || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return verdict{}
	}
	var code string
	if err := l.country.Lookup(a).DecodePath(&code, "country", "iso_code"); err != nil {
		code = "" // as an address that the file does not have
	}
	switch o := l.options; {
	case slices.Contains(o.BlockCountries, code), len(o.AllowCountries) > 0 && !slices.Contains(o.AllowCountries, code):
		if code == "" {
			code = "unknown"
		}
		return verdict{blocked: "country " + code}
	}
	return verdict{}
}

// stale reports whether a file has changed since it was read. One that is
// gone has not: lists are replaced, not removed.
func (l *Lists) stale() bool {
	for file, s := range l.stamps {
		if info, err := os.Stat(file); err == nil && (stamp{info.Size(), info.ModTime()}) != s {
			return true
		}
	}
	return false
}

// SetLists changes who is let in.
func (l *Limiter) SetLists(lists *Lists) { l.lists.Store(lists) }

// Refresh reads the lists again if one of their files has changed. If it
// cannot be read, the error says why and the lists stay as they were.
func (l *Limiter) Refresh() (changed bool, err error) {
	old := l.lists.Load()
	if old == nil || !old.stale() {
		return false, nil
	}
	lists, err := LoadLists(old.options)
	if err != nil {
		return false, err
	}
	if !l.lists.CompareAndSwap(old, lists) {
		return false, errors.New("the lists were exchanged meanwhile")
	}
	return true, nil
}

// ListPrefix begins a report's What about listed clients.
const ListPrefix = "listed: "

// doorAfter is after how many refusals in one window a listed client is not
// even answered.
const doorAfter = 20

// shut reports whether a listed client has been told often enough. The caller
// locks.
func (l *Limiter) shut(client netip.Prefix, why string) bool {
	w, ok := l.windows[key{client, ListPrefix + why}]
	return ok && w.count >= doorAfter
}
