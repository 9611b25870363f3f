package detect

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/journal"
)

// Product is the logsource product of Pasban's own events.
const Product = "pasban"

// The logsource services of Pasban's own events.
const (
	ServiceGateway  = "gateway"  // requests turned away, and upstreams that do not answer
	ServiceIdentity = "identity" // attempts to sign in
	ServiceAccess   = "access"   // policy's refusals
	ServiceRegistry = "registry" // looks at and changes of citizens' data
	ServiceAdmin    = "admin"    // people, keys, configuration, policy, alerts
	ServiceLedger   = "ledger"   // what the watchers of ledger, journal and store found
	ServiceSentinel = "sentinel" // changes of guarded tables, audits, and what the guard found
)

// Services lists the logsource services of Pasban's own events.
func Services() []string {
	return []string{ServiceGateway, ServiceIdentity, ServiceAccess, ServiceRegistry, ServiceAdmin, ServiceLedger, ServiceSentinel}
}

// Field describes a flat field of Pasban's own events.
type Field struct {
	Name string
	Type string // string, strings, integer
	Doc  string
}

// Fields lists the flat fields of Pasban's own events, in the order of
// docs/schemas/event.v1.json. A rule with logsource product: pasban may name
// these, the OCSF attributes, and nothing else.
func Fields() []Field {
	return []Field{
		{"Seq", "integer", "sequence number in the journal"},
		{"Incident", "string", "the fact's id, which people were shown as incident id"},
		{"EventTime", "string", "when it happened, RFC 3339 UTC with milliseconds"},
		{"LocalHour", "integer", "hour of the day in Pakistan (UTC+5), 0 to 23"},
		{"LocalWeekday", "string", "day of the week in Pakistan, Monday to Sunday"},
		{"Kind", "string", "look, change, decision, admin, opening, signin, block or alarm"},
		{"Agency", "string", "id of the agency"},
		{"Entity", "string", "whom or what the event is about: actor, client address or part of Pasban"},
		{"Actor", "string", "agency-internal id of who acted; missing for the anonymous"},
		{"ActorKind", "string", "person, citizen, system or anonymous"},
		{"Role", "string", "the actor's role"},
		{"Subject", "string", "blinded id of the citizen concerned"},
		{"OwnData", "string", "true if a citizen looks at their own data, false if someone else is the actor; missing if no citizen is concerned"},
		{"Service", "string", "declared service, or host of the guarded site"},
		{"Resource", "string", "record id, or pattern of the site's route; for admin acts what was changed"},
		{"Action", "string", "view, create, change, …"},
		{"DataFields", "strings", "the fields opened or changed"},
		{"Purpose", "string", "code of the purpose that was given"},
		{"Case", "string", "the agency's case number"},
		{"Basis", "string", "the law that allows it"},
		{"Mode", "string", "person, automatic or emergency"},
		{"Outcome", "string", "allow or deny"},
		{"HiddenUntil", "string", "when the citizen is told of a look that is hidden until then, RFC 3339 UTC with milliseconds"},
		{"SrcIP", "string", "the client's address"},
		{"UserAgent", "string", "the client's User-Agent header"},
		{"Host", "string", "the host asked for"},
		{"Method", "string", "the request's method"},
		{"Path", "string", "path of a request that was turned away, CNICs masked; never the query"},
		{"Status", "integer", "HTTP status of the answer"},
		{"Policies", "strings", "ids of the policies that decided"},
		{"Reasons", "strings", "why, in words"},
		{"WafRules", "strings", "ids of the WAF rules that matched"},
		{"Engine", "string", "the part of the gateway that a fact comes from: waf, flood, list, proxy, http, tls or gateway"},
		{"Attacks", "strings", "classes of attack that the WAF rules are tagged with: sqli, xss, …"},
		{"WafMode", "string", "detect if the WAF would have blocked the request but only looks on"},
		{"What", "string", "what there was too much of: requests or connections"},
		{"Count", "integer", "how many requests or connections the fact stands for"},
		{"Upstream", "string", "host of the guarded service that does not answer"},
		{"Reason", "string", "why, as a code"},
		{"Credential", "string", "hash of the id of the passkey that was tried"},
		{"Problem", "string", "what the ledger's audit found"},
		{"Repaired", "string", "true if what it found was put right"},
		{"DbSession", "string", "for changes of a guarded table: role, address, process and application of the database session that made it"},
		{"Target", "string", "for acts about a person: their agency-internal id"},
		{"TargetRole", "string", "for acts about a person: their role"},
		{"ReportedActor", "string", "id of the actor whose look a citizen reports"},
		{"ReportedEntry", "string", "id of the fact that a citizen reports"},
	}
}

// moreFields are the kind-specific details of a fact that events carry, by
// their key in Restricted.More. Others stay in the journal: they may name
// people or hold what a citizen wrote.
func moreFields() map[string]string {
	return map[string]string{
		"engine": "Engine", "attacks": "Attacks", "mode": "WafMode", "what": "What", "count": "Count",
		"upstream": "Upstream", "reason": "Reason", "target": "Target", "role": "TargetRole",
		"problem": "Problem", "repaired": "Repaired", "by": "DbSession",
		"credential": "Credential", "reported_actor": "ReportedActor", "entry": "ReportedEntry",
	}
}

func fieldNames() []string {
	var out []string
	for _, f := range Fields() {
		out = append(out, f.Name)
	}
	return out
}

// ocsfKeys are the OCSF attributes at the top of Pasban's own events.
var ocsfKeys = []string{
	"class_uid", "category_uid", "activity_id", "type_uid", "severity_id", "time", "status_id", "metadata", "actor",
	"src_endpoint", "http_request", "http_response", "disposition_id", "action_id", "web_resources", "user", "entity",
	"finding_info", "is_mfa", "auth_protocol", "privileges", "message",
}

// pkt is the time of Pakistan, which has no summer time.
var pkt = time.FixedZone("PKT", 5*60*60)

// FromEntry turns a journal entry into an event: the flat fields that rules
// name (see [Fields]), and the OCSF object (version 1.2) of the class that its
// kind calls for. The citizen is there only by blinded id; CNICs in text that
// clients sent are masked; the query of a request is left out. An entry whose
// row is damaged becomes an alarm about the journal; one whose citizen's key
// was destroyed keeps what the journal still knows.
func FromEntry(e journal.Entry) pasban.Event {
	if e.Damage != nil { // its time is not known
		e.Fact.Body = pasban.Body{Kind: pasban.KindAlarm, Outcome: pasban.Denied}
		e.Fact.Body.Action, e.Fact.Body.Service = "journal-damaged", "journal"
	}
	e.Fact.Body = e.Fact.Whole() // what is hidden from the citizen is not from the watch
	ev := flat(e)
	t, err := time.Parse(time.RFC3339Nano, e.Fact.Body.Time)
	if err == nil {
		ev["time"] = t.UnixMilli()
		ev["LocalHour"] = t.In(pkt).Hour()
		ev["LocalWeekday"] = t.In(pkt).Weekday().String()
	}
	addOCSF(ev, e.Fact)
	return ev
}

// flat fills in the flat fields. Empty ones are left out, so that exists and
// null mean what they say.
func flat(e journal.Entry) pasban.Event {
	b, r := e.Fact.Body, e.Fact.Restricted
	ev := pasban.Event{"Seq": e.Seq, LogsourceKey: Logsource{Product: Product, Service: serviceOf(b, r)}}
	for name, value := range map[string]string{
		"Incident": b.ID, "EventTime": b.Time, "Kind": string(b.Kind), "Agency": b.Agency,
		"Actor": r.Actor, "ActorKind": string(b.Who.Kind), "Role": string(b.Who.Role),
		"Subject": string(e.Fact.Subject.ID), "Service": b.Service, "Resource": maskWritten(b.Resource),
		"Action": b.Action, "Purpose": b.Purpose, "Case": mask(b.Case), "Basis": b.Basis, "Mode": string(b.Mode),
		"Outcome": string(b.Outcome), "SrcIP": r.IP, "UserAgent": mask(r.UserAgent), "Host": r.Host, "Method": r.Method,
		"HiddenUntil": b.Hidden.Until,
	} {
		if value != "" {
			ev[name] = value
		}
	}
	if b.Kind == pasban.KindBlock && r.Path != "" {
		ev["Path"] = mask(r.Path)
	}
	if r.Status != 0 {
		ev["Status"] = r.Status
	}
	for name, list := range map[string][]string{"DataFields": b.Fields, "Policies": r.Policies, "WafRules": r.Rules} {
		if len(list) > 0 {
			ev[name] = list
		}
	}
	if len(r.Reasons) > 0 {
		reasons := make([]string, len(r.Reasons))
		for i, s := range r.Reasons {
			reasons[i] = mask(s)
		}
		ev["Reasons"] = reasons
	}
	for key, name := range moreFields() {
		if v := r.More[key]; v != "" {
			ev[name] = detailOf(name, v)
		}
	}
	if own := ownData(e.Fact); own != "" {
		ev["OwnData"] = own
	}
	if about := entityOf(ev, b); about != "" {
		ev["Entity"] = about
	}
	return ev
}

// detailOf gives a detail the type that [Fields] says.
func detailOf(name, v string) any {
	switch name {
	case "Attacks":
		return strings.Split(v, ",")
	case "Count":
		if n, err := strconv.Atoi(v); err == nil {
			return n
		}
	}
	return mask(v)
}

// ownData says whether a citizen acted on their own data; "" if no citizen is concerned.
func ownData(f pasban.Fact) string {
	switch {
	case f.Subject.ID == "":
		return ""
	case f.Body.Who.Role == pasban.RoleCitizen:
		return "true" // policy lets citizens see nothing else
	}
	return "false"
}

func serviceOf(b pasban.Body, r pasban.Restricted) string {
	if b.Service == ServiceSentinel {
		return ServiceSentinel
	}
	switch b.Kind {
	case pasban.KindLook, pasban.KindChange, pasban.KindOpening:
		return ServiceRegistry
	case pasban.KindDecision:
		return ServiceAccess
	case pasban.KindSignin:
		return ServiceIdentity
	case pasban.KindBlock:
		return ServiceGateway
	case pasban.KindAlarm:
		switch b.Action {
		case "upstream", "certificate", "panic":
			return ServiceGateway
		case "report":
			return ServiceRegistry
		}
		return ServiceLedger
	}
	return ServiceAdmin
}

// entityOf picks whom the event is about: who acted if known, else the client.
func entityOf(ev pasban.Event, b pasban.Body) string {
	order := []string{"Actor", "SrcIP", "Service"}
	switch b.Kind {
	case pasban.KindBlock, pasban.KindSignin:
		order = []string{"SrcIP", "Actor", "Service"}
	case pasban.KindAlarm:
		order = []string{"ReportedActor", "Upstream", "Service", "Resource"}
	}
	if b.Service == ServiceSentinel && b.Kind == pasban.KindAlarm {
		order = []string{"Resource"} // the table
	}
	for _, name := range order {
		if s, ok := ev[name].(string); ok {
			return s
		}
	}
	return b.Agency
}

// digitRun is 13 digits in Latin, Arabic-Indic or Urdu form with or without
// separators: whatever ParseCNIC might read as a CNIC.
var digitRun = regexp.MustCompile(`[0-9٠-٩۰-۹](?:[-\s+_.]{0,3}[0-9٠-٩۰-۹]){12}`)

// masked stands in text for a CNIC that was there.
const masked = "[CNIC]"

// maskWritten hides CNICs in text that Pasban itself wrote: those that stand
// alone, so that the digits of a random id stay.
func maskWritten(s string) string {
	found, _ := pasban.FindCNICs([]byte(s), 100)
	for _, c := range found {
		s = strings.NewReplacer(string(c), masked, strings.ReplaceAll(string(c), "-", ""), masked).Replace(s)
	}
	return s
}

// mask hides CNICs in text that a client sent: whatever might be one, also
// behind percent encoding.
func mask(s string) string {
	plain := s
	for range 3 {
		if digitRun.MatchString(plain) {
			return digitRun.ReplaceAllString(plain, masked)
		}
		next, err := url.PathUnescape(plain)
		if err != nil || next == plain {
			return s
		}
		plain = next
	}
	return "[encoded too often]"
}
