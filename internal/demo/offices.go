package demo

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"pasban"
)

// atWork signs a person in office in and chooses purpose and case at the desk.
func (s *story) atWork(ctx context.Context, who Staff, purpose, caseNo string) (*visitor, error) {
	v, err := s.signIn(ctx, who.ID)
	if err != nil {
		return nil, err
	}
	a, err := v.post(ctx, "/desk/work", wantPage, url.Values{"purpose": {purpose}, "case": {caseNo}})
	if err != nil {
		return nil, err
	}
	if !a.ok() {
		return nil, fmt.Errorf("%s could not choose purpose and case: status %d%s", v.who, a.Status, because(a))
	}
	return v, nil
}

// How much work there is in a working day.
const (
	workOfficers = 3
	workRecords  = 8 // that each of them opens
	workCitizens = 6
)

// workingDay has officers, a supervisor and citizens do what they do every
// day, in English and Urdu. Nothing of it may be refused.
func (s *story) workingDay(ctx context.Context, b *Beat) error {
	s.paper.say("work", "%d officers open records for their cases and enter mutations, a supervisor attests, %d citizens apply for a transfer and read who looked at their data",
		workOfficers, workCitizens)
	given := map[uint64]pasban.Promise{} // by leaf
	var crew []*visitor
	defer func() {
		for _, v := range crew {
			v.close()
		}
	}()
	for i, who := range s.people.With(pasban.RoleOfficer)[:workOfficers] {
		v, err := s.officersDay(ctx, b, who, i, given)
		if err != nil {
			return err
		}
		crew = append(crew, v)
	}
	var number string // of the last application
	for i := range workCitizens {
		v, no, err := s.citizenApplies(ctx, b, i)
		if err != nil {
			return err
		}
		crew, number = append(crew, v), no
	}
	if err := s.supervisorsDay(ctx, b, crew[0], number, given); err != nil {
		return err
	}
	s.paper.say("pasban", "%d looks and changes of the land registry's pages were committed to the journal before their page was shown, each with a signed promise; every answer of an application is sealed under the key of the person whom it is about", len(given))
	verified, theirs, waiting := 0, 0, time.Now()
	for i, v := range crew[workOfficers:] {
		n, own, err := s.citizenReads(ctx, b, v, s.people.Citizens[i].CNIC, given)
		if err != nil {
			return err
		}
		verified, theirs = verified+n, theirs+own
	}
	if theirs == 0 {
		b.fail("no citizen found an officer's look among their entries")
	}
	s.paper.say("proof", "%d entries of “Who looked at my data” exchanged for receipts and verified offline against the ledger's key in %s, %d of them officers' looks that were promised above",
		verified, time.Since(waiting).Round(100*time.Millisecond), theirs)
	b.See = s.net.base + "/en/my-data"
	s.paper.say("see", "%s as a citizen, %s as an analyst", b.See, s.net.base+"/soc")
	return nil
}

// promised checks and keeps the promises of an answer that showed a citizen's data.
func (s *story) promised(b *Beat, a answer, what string, given map[uint64]pasban.Promise) {
	list, err := a.promises(s.verifier.Name())
	if err != nil {
		b.fail("%s: %v", what, err)
	}
	if len(list) == 0 {
		b.fail("%s: shown without a promise", what)
	}
	for _, p := range list {
		if err := p.Verify(s.verifier); err != nil {
			b.fail("%s: %v", what, err)
		}
		given[p.Index] = p
	}
}

// officersDay is what the i-th officer does at the land registry. It returns
// their browser.
func (s *story) officersDay(ctx context.Context, b *Beat, who Staff, i int, given map[uint64]pasban.Promise) (*visitor, error) {
	v, err := s.atWork(ctx, who, "mutation", fmt.Sprintf("SYN-MUT-%d", 101+i))
	if err != nil {
		return nil, err
	}
	b.Requests += 2
	mine := s.people.Citizens[i*workRecords:][:workRecords]
	for n, c := range mine {
		h, _ := s.people.Held(c.CNIC)
		what := v.who + " opens " + string(c.CNIC)
		a, err := v.get(ctx, []string{"/records/", "/api/records/"}[n%2]+string(c.CNIC), wantPage)
		if b.legitimate(a, err, what) {
			s.promised(b, a, what, given)
			if !strings.Contains(a.Body, c.NameUr) {
				b.fail("%s: the record does not show the name in Urdu", what)
			}
		}
		if n%4 == 0 {
			a, err = v.get(ctx, searchFor(h.Plot, h.Khasra), wantPage)
			b.legitimate(a, err, v.who+" searches plot "+h.Path())
			a, err = v.get(ctx, "/plots/"+escapePath(h.Path()), wantPage)
			if b.legitimate(a, err, v.who+" opens plot "+h.Path()) {
				s.promised(b, a, v.who+" opens plot "+h.Path(), given)
			}
		}
	}
	from, _ := s.people.Held(mine[1].CNIC)
	a, err := v.get(ctx, "/mutations/new?"+url.Values{"district": {from.District}, "mouza": {from.Mouza}, "khasra": {from.Khasra}, "from": {from.CNIC}}.Encode(), wantPage)
	b.legitimate(a, err, v.who+" opens the form of a mutation")
	a, err = v.post(ctx, "/mutations", wantPage, mutationForm(from, mine[2].CNIC, honestNotes()[i%len(honestNotes())]))
	if b.legitimate(a, err, v.who+" enters a mutation") && !strings.Contains(a.Body, from.CNIC) {
		b.fail("%s entered a mutation and does not see it", v.who)
	}
	return v, nil
}

// honestNotes are notes of mutations as clerks write them.
func honestNotes() []string {
	return []string{
		"رقم ادا کر دی گئی، قبضہ خریدار کو دے دیا گیا",
		"Sale; Rs. 2,450,000 paid by cheque no. 0012 (O'Brien & Sons witnessed). Area 2 kanal 10 marla.",
		"انتقال وراثت: متوفی کے ورثاء میں تقسیم -- شجرہ نسب منسلک ہے",
	}
}

func escapePath(path string) string {
	part := strings.Split(path, "/")
	for i := range part {
		part[i] = url.PathEscape(part[i])
	}
	return strings.Join(part, "/")
}

// supervisorsDay attests what officers prepared: the first mutation at the
// land registry, and an application that the officer checks at the desk. Four
// eyes: the officer cannot attest it.
func (s *story) supervisorsDay(ctx context.Context, b *Beat, officer *visitor, number string, given map[uint64]pasban.Promise) error {
	v, err := s.atWork(ctx, s.people.With(pasban.RoleSupervisor)[0], "mutation", "SYN-MUT-101")
	if err != nil {
		return err
	}
	defer v.close()
	b.Requests += 2
	a, err := v.get(ctx, "/mutations/1", wantPage)
	if b.legitimate(a, err, v.who+" opens a mutation") {
		s.promised(b, a, v.who+" opens a mutation", given)
	}
	from, _ := s.people.Held(s.people.Citizens[1].CNIC)
	a, err = v.post(ctx, "/mutations/1/attest", wantPage, url.Values{"from": {from.CNIC}})
	if b.legitimate(a, err, v.who+" attests a mutation") && !strings.Contains(a.Body, "attested") {
		b.fail("%s attested a mutation, and it still is not", v.who)
	}
	record := "/desk/services/" + landTransfer + "/" + number
	a, err = officer.get(ctx, "/desk/services/"+landTransfer, wantPage)
	if b.legitimate(a, err, officer.who+" reads the list of applications") && !strings.Contains(a.Body, number) {
		b.fail("application %s is not in the officers' list", number)
	}
	a, err = officer.get(ctx, record, wantPage)
	if name := s.people.Citizens[workCitizens-1].NameUr; b.legitimate(a, err, officer.who+" opens an application") && !strings.Contains(a.Body, name) {
		b.fail("application %s does not show its applicant's name", number)
	}
	a, err = officer.post(ctx, record+"/steps/verify", wantPage, url.Values{})
	b.legitimate(a, err, officer.who+" checks an application")
	a, err = v.post(ctx, record+"/steps/attest", wantPage, url.Values{})
	b.legitimate(a, err, v.who+" attests an application")
	return nil
}

// entryIndex finds the entries of “Who looked at my data”.
var entryIndex = regexp.MustCompile(`data-index="(\d+)"`)

// citizenApplies signs the i-th citizen in and has them apply for a transfer.
// It returns their browser and the application's number.
func (s *story) citizenApplies(ctx context.Context, b *Beat, i int) (v *visitor, number string, err error) {
	if v, err = s.signIn(ctx, s.people.Citizens[i].ID); err != nil {
		return nil, "", err
	}
	b.Requests++
	a, err := v.get(ctx, "/en/apply/"+landTransfer, wantPage)
	b.legitimate(a, err, v.who+" opens the application form")
	form := url.Values{"step": {"send"}}
	for name, value := range s.people.Application(i) {
		form.Set(name, value)
	}
	a, err = v.post(ctx, "/ur/apply/"+landTransfer, wantPage, form)
	if !b.legitimate(a, err, v.who+" applies for a transfer") {
		return v, "", nil
	}
	_, number, ok := strings.Cut(a.URL.Path, "/applications/"+landTransfer+"/")
	if !ok {
		b.fail("%s applied and was not told a reference number", v.who)
	}
	return v, number, nil
}

// citizenReads has a citizen read who looked at their data in both languages
// and check every entry's receipt. It returns how many receipts were verified
// and how many of them are of promises given to officers.
func (s *story) citizenReads(ctx context.Context, b *Beat, v *visitor, own pasban.CNIC, given map[uint64]pasban.Promise) (verified, officers int, err error) {
	var page answer
	for _, lang := range []string{"ur", "en"} {
		page, err = v.get(ctx, "/"+lang+"/my-data", wantPage)
		b.legitimate(page, err, v.who+" reads who looked at their data")
	}
	for _, m := range entryIndex.FindAllStringSubmatch(page.Body, -1) {
		index, err := strconv.ParseUint(m[1], 10, 63)
		if err != nil {
			return verified, officers, fmt.Errorf("an entry's number: %w", err)
		}
		p, promised := given[index]
		p.Index = index
		b.Requests++
		body, err := s.receipt(ctx, v, p)
		if err != nil {
			b.RefusedLegitimate++
			b.fail("%s checks entry %d: %v", v.who, index, err)
			continue
		}
		verified++
		if body.Subject != own {
			b.fail("%s was shown an entry about somebody else", v.who)
		}
		if promised && body.Who.Role == pasban.RoleOfficer {
			officers++
		}
	}
	return verified, officers, nil
}
