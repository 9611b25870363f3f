package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into the store from outside

	"pasban"
	"pasban/internal/identity"
)

// kills is how often the node is killed.
const kills = 50

// acknowledged is what the node has given its word for.
type acknowledged struct {
	mu       sync.Mutex          // covers what follows
	promises map[uint64]promised // by leaf index
	records  map[string]string   // id of a record to the address in it
	odd      []string            // answers that there must not be
	count    atomic.Int64        // how many, for who waits for some
}

// promised is a promise and whoever got it.
type promised struct {
	pasban.Promise
	to *visitor
}

// take keeps what an answer acknowledges. That counts from the moment that the
// header was read, whatever became of the rest.
func (k *acknowledged) take(v *visitor, a answer, address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch a.status {
	case 0, http.StatusServiceUnavailable: // down, or not ready yet: nothing was shown
		if len(a.header.Values(pasban.PromiseHeader)) > 0 {
			k.odd = append(k.odd, "a promise with a refusal")
		}
		return
	case http.StatusOK, http.StatusCreated:
	default:
		k.odd = append(k.odd, fmt.Sprintf("%d: %.200s", a.status, a.body))
		return
	}
	values := a.header.Values(pasban.PromiseHeader)
	if len(values) == 0 {
		k.odd = append(k.odd, "shown without a promise")
	}
	for _, h := range values {
		p, err := pasban.ParsePromise(origin, h)
		if err != nil {
			k.odd = append(k.odd, err.Error())
			continue
		}
		if had, ok := k.promises[p.Index]; ok {
			k.odd = append(k.odd, fmt.Sprintf("leaf %d was promised twice, as %s and as %s", p.Index, had.Leaf, p.Leaf))
		}
		k.promises[p.Index] = promised{p, v}
	}
	if a.status == http.StatusCreated {
		k.records[strings.TrimPrefix(a.header.Get("Location"), recordsPath+"/")] = address
	}
	k.count.Add(1)
}

const recordsPath = "/api/v1/services/land-transfer/records"

// application is an application for a transfer between two synthetic people;
// the seller's address tells it from others.
func application(n int64) (values map[string]string, address string) {
	address = fmt.Sprintf("House %d, Synthetic Lane", n)
	return map[string]string{
		"district": "rawalpindi", "tehsil": "Synthetic", "mouza": "Adiala", "khasra": "123/4", "area_kanal": "2", "transfer": "sale",
		"seller_cnic": "99100-0000001-1", "seller_name": "Synthetic Seller", "seller_father": "Synthetic Elder", "seller_mobile": "0399-1234567",
		"seller_address": address, "seller_needs": "Synthetic sciatica",
		"buyer_cnic": "99100-0000002-3", "buyer_name": "Synthetic Buyer", "buyer_father": "Synthetic Parent", "buyer_mobile": "0399-9999999",
		"buyer_address": "House 7, Synthetic Road", "consideration_pkr": "1234567", "agreed_on": "2026-10-01",
	}, address
}

func applicationBody(n int64) (body []byte, address string) {
	values, address := application(n)
	return must(json.Marshal(map[string]any{"values": values})), address
}

// load keeps clients busy with guarded pages and applications until ctx ends.
func (k *acknowledged) load(ctx context.Context, land *legacy, people []*visitor) *sync.WaitGroup {
	var wg sync.WaitGroup
	var serial atomic.Int64
	for i, v := range people {
		wg.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				var a answer
				var err error
				var address string
				if i == 0 {
					var body []byte
					body, address = applicationBody(serial.Add(1))
					a, err = v.ask(ctx, http.MethodPost, recordsPath, body, working...)
				} else {
					a, err = v.ask(ctx, http.MethodGet, land.record(n), nil, working...)
				}
				if ctx.Err() != nil && a.status == 0 {
					return
				}
				k.take(v, a, address)
				if err != nil || a.status >= 400 { // it is down: not too many knocks on the door
					<-time.After(5 * time.Millisecond)
				}
			}
		})
	}
	return &wg
}

// TestKill kills the node fifty times at random moments under load, during its
// start as well, always on one data directory. Whatever it acknowledged is
// there at the end: every look, every record, every promise as a receipt.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("fifty kills take half a minute")
	}
	t.Parallel()
	land := newLegacy(t)
	s := newNode(t, land.URL, "off")
	const clients = 4
	var staffs []identity.NewPerson
	for i := range clients {
		staffs = append(staffs, staff(pasban.RoleOfficer, fmt.Sprintf("LHR-%03d", i)))
	}
	links := s.add(staffs...)
	s.up()
	var people []*visitor
	for _, link := range links {
		people = append(people, s.enrolled(link))
	}

	k := &acknowledged{promises: map[uint64]promised{}, records: map[string]string{}}
	ctx, stop := context.WithCancel(t.Context())
	clientsDone := k.load(ctx, land, people)
	for range kills {
		if n := rand.Int64N(40); n < 8 { // at any moment of the start
			<-time.After(rand.N(150 * time.Millisecond))
		} else { // or after some answers, and a little later
			from := k.count.Load()
			check(t, await(func() error {
				if k.count.Load() < from+n-8 {
					return fmt.Errorf("%d answers since the start", k.count.Load()-from)
				}
				return nil
			}))
			<-time.After(rand.N(5 * time.Millisecond))
		}
		s.kill()
		s.start()
	}
	s.ready()
	stop()
	clientsDone.Wait()

	for _, odd := range k.odd {
		t.Error(odd)
	}
	t.Logf("%d kills, %d promises, %d records acknowledged", kills, len(k.promises), len(k.records))
	if len(k.promises) < kills || len(k.records) == 0 {
		t.Fatal("too little was acknowledged between the kills: this proves nothing")
	}
	s.everythingIsThere(k, people)
	s.stop()
	s.gapless()
	s.audited()
}

// everythingIsThere exchanges every promise for its receipt and opens every
// record, as those who were told of them.
func (s *serving) everythingIsThere(k *acknowledged, people []*visitor) {
	s.t.Helper()
	verifier := s.verifier()
	last := uint64(0)
	for index := range maps.Keys(k.promises) {
		last = max(last, index)
	}
	check(s.t, await(func() error {
		status, err := readyz(s.admin)
		if err == nil && status.Figures.Checkpoint <= last {
			err = fmt.Errorf("%d leaves under a checkpoint, %d promised", status.Figures.Checkpoint, last+1)
		}
		return err
	}))

	var wg sync.WaitGroup
	todo := make(chan func())
	for range 4 {
		wg.Go(func() {
			for do := range todo {
				do()
			}
		})
	}
	for index, p := range k.promises {
		todo <- func() {
			a, err := p.to.ask(s.t.Context(), http.MethodGet, fmt.Sprintf("/ledger/receipt/%d", index), nil)
			if err != nil || a.status != http.StatusOK {
				s.t.Errorf("the receipt of promised leaf %d: %d %v %.200s", index, a.status, err, a.body)
				return
			}
			if err := honoured(a.body, p.Promise, verifier); err != nil {
				s.t.Errorf("promise of leaf %d: %v", index, err)
			}
		}
	}
	for id, address := range k.records {
		todo <- func() {
			a, err := people[0].ask(s.t.Context(), http.MethodGet, recordsPath+"/"+id+"?fields=seller_address", nil, append(working, "Accept", "application/json")...)
			if err != nil || a.status != http.StatusOK || !strings.Contains(string(a.body), address) {
				s.t.Errorf("acknowledged record %s: %d %v %.200s", id, a.status, err, a.body)
			}
		}
	}
	close(todo)
	wg.Wait()
}

// gapless looks into the store of a stopped node: numbers without gaps.
func (s *serving) gapless() {
	s.t.Helper()
	db, err := sql.Open("sqlite", s.data("store.db"))
	check(s.t, err)
	defer db.Close()
	var rows, last, leaves, lastLeaf, distinct int64
	check(s.t, db.QueryRow(`SELECT COUNT(*), MAX(seq), COUNT(leaf_index), MAX(leaf_index), COUNT(DISTINCT leaf_index) FROM journal`).
		Scan(&rows, &last, &leaves, &lastLeaf, &distinct))
	if rows != last || leaves != lastLeaf+1 || distinct != leaves {
		s.t.Errorf("%d rows up to %d, %d leaves (%d different) up to %d: there are gaps or doubles", rows, last, leaves, distinct, lastLeaf)
	}
}

// audited has the offline verifier rehash the ledger, as an auditor would.
func (s *serving) audited() {
	s.t.Helper()
	s.verify("audit", s.data("ledger"))
}

// verify runs the offline verifier; everything holds.
func (s *serving) verify(command string, args ...string) {
	s.t.Helper()
	out, err := exec.Command(build(s.t, "pasban-verify"), append([]string{command, "--key", s.data("ledger/vkey")}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Errorf("pasban-verify %s: %v\n%s", command, err, out)
	}
}
