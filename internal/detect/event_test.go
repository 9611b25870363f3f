package detect

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/journal"
)

const cnic = "35202-1234567-1" // synthetic

// anyFact is a fact of the given kind with something in every field, and a
// CNIC wherever one might stand.
func anyFact(kind pasban.Kind) pasban.Fact {
	who := pasban.Actor{ID: "officer:lhr-032", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-032"}
	f := pasban.NewFact(kind, "land-records", who, time.Date(2026, 11, 22, 21, 30, 0, 0, time.UTC))
	f.Subject = pasban.Subject{ID: "aa01", CNIC: cnic}
	b := &f.Body
	b.Subject = cnic
	b.Hidden.Until = "2027-05-01T00:00:00.000Z"
	b.Service, b.Resource, b.Action, b.Fields = "land.example", "GET /records/{cnic}", "view", []string{"owner", "share"}
	b.Purpose, b.Case, b.Basis, b.Mode = "mutation", "M-17 "+cnic, "Land Revenue Act 1967", pasban.ModePerson
	f.Restricted = pasban.Restricted{
		Actor: who.ID, IP: "203.0.113.8", UserAgent: "agent 3520212345671", Host: "land.example", Method: "GET",
		Path: "/records/" + cnic, Query: "name=Synthetic+Person&cnic=" + cnic, Status: 403, Policies: []string{"p1"},
		Reasons: []string{"no case for " + cnic}, Rules: []string{"942100"},
		More: map[string]string{"engine": "waf", "attacks": "sqli,xss", "count": "7", "text": "I am Synthetic Person", "upstream": "10.0.0.1:80"},
	}
	return f
}

func kinds() []pasban.Kind {
	return []pasban.Kind{pasban.KindLook, pasban.KindChange, pasban.KindDecision, pasban.KindAdmin, pasban.KindSignin, pasban.KindBlock, pasban.KindAlarm, pasban.KindOpening}
}

// TestEventsHoldNoPerson: neither CNIC nor query nor what a citizen wrote.
func TestEventsHoldNoPerson(t *testing.T) {
	for _, kind := range kinds() {
		f := anyFact(kind)
		for _, path := range []string{"/records/" + cnic, "/r/3520212345671", "/r/%33520212345671", "/r/%2533520212345671", "/r/35202%201234567%201", "/r/۳۵۲۰۲-۱۲۳۴۵۶۷-۱", "/r/%252525253335202"} {
			f.Restricted.Path = path
			raw, err := json.Marshal(FromEntry(journal.Entry{Seq: 7, Index: -1, Fact: f}))
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"35202-1234567-1", "3520212345671", "1234567", "۱۲۳۴۵۶۷", "Synthetic", "name=", "%25252533"} {
				if bytes.Contains(raw, []byte(bad)) {
					t.Errorf("%s: the event holds %q:\n%s", kind, bad, raw)
				}
			}
		}
	}
}

func TestMaskLeavesTheRest(t *testing.T) {
	for text, want := range map[string]string{
		"/records/search":      "/records/search",
		"/a%20b":               "/a%20b",
		"100% sure":            "100% sure",
		"Mozilla/5.0 (X11)":    "Mozilla/5.0 (X11)",
		"/r/35202-1234567-1/x": "/r/[CNIC]/x",
		"/12345678":            "/12345678",
	} {
		if got := mask(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	id := "0123456789012345678901234567abcd"
	if got := maskWritten(id); got != id {
		t.Errorf("a random id becomes %q", got)
	}
	if got := maskWritten("GET /records/" + cnic); got != "GET /records/[CNIC]" {
		t.Errorf("a CNIC becomes %q", got)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("/r/", "%2D")
	f.Fuzz(func(t *testing.T, before, between string) {
		text := before + "35202" + between + "1234567" + between + "1"
		if strings.Contains(mask(before+"3520212345671"), "3520212345671") {
			t.Errorf("%q is left", before)
		}
		mask(text)
	})
}

func TestClasses(t *testing.T) {
	for _, c := range []struct {
		kind            pasban.Kind
		action          string
		service         string
		class, activity int
	}{
		{pasban.KindBlock, "waf", ServiceGateway, 4002, 3},
		{pasban.KindSignin, "signin", ServiceIdentity, 3002, 1},
		{pasban.KindSignin, "signout", ServiceIdentity, 3002, 2},
		{pasban.KindLook, "view", ServiceRegistry, 6001, 2},
		{pasban.KindLook, "audit", ServiceRegistry, 6001, 2},
		{pasban.KindOpening, "disclose", ServiceRegistry, 6001, 2},
		{pasban.KindChange, "create", ServiceRegistry, 6001, 1},
		{pasban.KindChange, "approve", ServiceRegistry, 6001, 3},
		{pasban.KindDecision, "view", ServiceAccess, 6001, 2},
		{pasban.KindAdmin, "person.add", ServiceAdmin, 3001, 1},
		{pasban.KindAdmin, "person.disable", ServiceAdmin, 3001, 5},
		{pasban.KindAdmin, "person.enable", ServiceAdmin, 3001, 2},
		{pasban.KindAdmin, "person.enrol", ServiceAdmin, 3001, 99},
		{pasban.KindAdmin, "passkey.add", ServiceAdmin, 3001, 10},
		{pasban.KindAdmin, "config.reload", ServiceAdmin, 3004, 3},
		{pasban.KindAdmin, "subject.shred", ServiceAdmin, 3004, 4},
		{pasban.KindAlarm, "audit", ServiceLedger, 2004, 1},
		{pasban.KindAlarm, "upstream", ServiceGateway, 2004, 1},
		{pasban.KindAlarm, "report", ServiceRegistry, 2004, 1},
	} {
		f := anyFact(c.kind)
		f.Body.Action = c.action
		ev := FromEntry(journal.Entry{Seq: 7, Index: -1, Fact: f})
		if ev["class_uid"] != c.class || ev["activity_id"] != c.activity || ev["category_uid"] != c.class/1000 || ev["type_uid"] != c.class*100+c.activity {
			t.Errorf("%s %s: class %v activity %v type %v", c.kind, c.action, ev["class_uid"], ev["activity_id"], ev["type_uid"])
		}
		if want := (Logsource{Product: "pasban", Service: c.service}); ev[LogsourceKey] != want {
			t.Errorf("%s %s: logsource %v, want %v", c.kind, c.action, ev[LogsourceKey], want)
		}
		for _, key := range []string{"severity_id", "time", "metadata", "status_id"} {
			if ev[key] == nil {
				t.Errorf("%s: no %s", c.kind, key)
			}
		}
		if ev["Seq"] != uint64(7) || ev["Incident"] != f.Body.ID || ev["LocalHour"] != 2 || ev["LocalWeekday"] != "Monday" || !Time(ev).Equal(time.Date(2026, 11, 22, 21, 30, 0, 0, time.UTC)) {
			t.Errorf("%s: place or time is %v %v %v %v", c.kind, ev["Seq"], ev["Incident"], ev["LocalHour"], ev["LocalWeekday"])
		}
		if (ev["Path"] != nil) != (c.kind == pasban.KindBlock) {
			t.Errorf("%s: path %v", c.kind, ev["Path"])
		}
	}
}

// TestEveryFieldIsDeclared: events have the flat fields that Fields lists, the
// OCSF attributes, and nothing else; and the types are those declared.
func TestEveryFieldIsDeclared(t *testing.T) {
	types := map[string]string{}
	for _, f := range Fields() {
		types[f.Name] = f.Type
	}
	seen := map[string]bool{}
	for _, kind := range kinds() {
		f := anyFact(kind)
		for key := range moreFields() {
			if _, there := f.Restricted.More[key]; !there {
				f.Restricted.More[key] = "x"
			}
		}
		for name, value := range FromEntry(journal.Entry{Seq: 1, Fact: f}) {
			seen[name] = true
			if name == LogsourceKey || slices.Contains(ocsfKeys, name) {
				continue
			}
			got := "?"
			switch value.(type) {
			case string:
				got = "string"
			case []string:
				got = "strings"
			case int, uint64:
				got = "integer"
			}
			if types[name] != got {
				t.Errorf("%s is a %s, declared %q", name, got, types[name])
			}
		}
	}
	for name := range types {
		if !seen[name] {
			t.Errorf("%s is declared, but no event has it", name)
		}
	}
}

func TestDamagedAndShredded(t *testing.T) {
	ev := FromEntry(journal.Entry{Seq: 9, Index: -1, Damage: errors.New("row 9")})
	if ev["Kind"] != "alarm" || ev["Action"] != "journal-damaged" || ev["Seq"] != uint64(9) || ev["Entity"] != "journal" || !Time(ev).IsZero() {
		t.Errorf("a damaged row becomes %v", ev)
	}
	ev = FromEntry(journal.Entry{Seq: 9, Shredded: true, Fact: pasban.Fact{Subject: pasban.Subject{ID: "aa"}, Body: pasban.Body{Version: 1, ID: "x", Kind: pasban.KindLook, Time: "2026-11-23T00:00:00.000Z"}}})
	if ev["Kind"] != "look" || ev["Subject"] != "aa" || ev["Actor"] != nil || Time(ev).IsZero() {
		t.Errorf("a shredded entry becomes %v", ev)
	}
}

// A look that is hidden from the citizen is watched like any other.
func TestHiddenLook(t *testing.T) {
	body := pasban.Body{Version: 1, ID: "x", Kind: pasban.KindLook, Time: "2026-11-23T00:00:00.000Z", Outcome: pasban.Allowed}
	body.Who.Kind, body.Hidden.Until = pasban.ActorHidden, "2027-05-01T00:00:00.000Z"
	ev := FromEntry(journal.Entry{Seq: 1, Fact: pasban.Fact{Subject: pasban.Subject{ID: "aa"}, Body: body,
		Details: pasban.Details{Who: pasban.Who{Kind: pasban.ActorPerson, Role: pasban.RoleOfficer}, Service: "land", Purpose: "inquiry"}}})
	if ev["ActorKind"] != "person" || ev["Role"] != "officer" || ev["Service"] != "land" || ev["Purpose"] != "inquiry" || ev["HiddenUntil"] != "2027-05-01T00:00:00.000Z" {
		t.Errorf("a hidden look becomes %v", ev)
	}
}

// schema is docs/schemas/event.v1.json, written from Fields.
func schema(t *testing.T) []byte {
	t.Helper()
	types := map[string]any{
		"string":  map[string]any{"type": "string"},
		"strings": map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
		"integer": map[string]any{"type": "integer"},
	}
	properties := map[string]any{
		LogsourceKey: map[string]any{"type": "object", "description": "Sigma's logsource of the event", "properties": map[string]any{
			"product": map[string]any{"const": Product}, "service": map[string]any{"enum": Services()}}, "required": []string{"product", "service"}},
		"time":         map[string]any{"type": "integer", "description": "OCSF: milliseconds since 1970"},
		"class_uid":    map[string]any{"type": "integer", "description": "OCSF " + ocsfVersion + " class", "enum": []int{classDetectionFinding, classAccountChange, classAuthentication, classEntityManagement, classUserAccess, classHTTPActivity, classWebResources}},
		"category_uid": map[string]any{"type": "integer"},
		"activity_id":  map[string]any{"type": "integer"},
		"type_uid":     map[string]any{"type": "integer", "description": "class_uid × 100 + activity_id"},
		"severity_id":  map[string]any{"type": "integer", "minimum": 0, "maximum": 6},
		"metadata":     map[string]any{"type": "object", "required": []string{"version", "product", "uid"}},
	}
	for _, f := range Fields() {
		p := maps.Clone(types[f.Type].(map[string]any))
		p["description"] = f.Doc
		properties[f.Name] = p
	}
	data, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "pasban.event.v1", "title": "Pasban event",
		"description": "One fact as detection sees it: an OCSF " + ocsfVersion + " object and, beside its attributes, the flat fields that Sigma rules with logsource product pasban may name.",
		"type":        "object", "properties": properties,
		"required": []string{LogsourceKey, "Kind", "class_uid", "category_uid", "activity_id", "type_uid", "severity_id", "metadata"},
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// TestSchema keeps the published schema true. PASBAN_WRITE=1 writes it anew.
func TestSchema(t *testing.T) {
	const file = "../../docs/schemas/event.v1.json"
	want := schema(t)
	if os.Getenv("PASBAN_WRITE") != "" {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what Fields says; run PASBAN_WRITE=1 go test ./internal/detect -run TestSchema", file)
	}
	for _, f := range Fields() {
		if !regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(f.Name) || f.Doc == "" {
			t.Errorf("field %+v", f)
		}
	}
}
