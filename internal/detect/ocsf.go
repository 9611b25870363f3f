package detect

import (
	"strings"

	"pasban"
)

// ocsfVersion is the version of the Open Cybersecurity Schema Framework
// (schema.ocsf.io) that events keep to.
const ocsfVersion = "1.2.0"

// OCSF classes in use; the category is the class's thousands.
const (
	classDetectionFinding = 2004
	classAccountChange    = 3001
	classAuthentication   = 3002
	classEntityManagement = 3004
	classUserAccess       = 3005
	classHTTPActivity     = 4002
	classWebResources     = 6001
)

// activity_id where a class has no value of its own for what happened.
const activityOther = 99

// severity_id
const (
	severityInformational = 1
	severityLow           = 2
	severityMedium        = 3
	severityHigh          = 4
)

// status_id and, of the security_control profile, action_id and disposition_id.
const (
	statusSuccess, statusFailure           = 1, 2
	actionAllowed, actionDenied            = 1, 2
	dispositionAllowed, dispositionBlocked = 1, 2
)

// addOCSF adds the OCSF object of the fact's class to its event.
func addOCSF(ev pasban.Event, f pasban.Fact) {
	b, r := f.Body, f.Restricted
	class, activity := classOf(b, r)
	metadata := map[string]any{
		"version": ocsfVersion,
		"product": map[string]any{"name": "Pasban", "vendor_name": "Pasban"},
		"uid":     b.ID,
	}
	ev["class_uid"], ev["category_uid"] = class, class/1000
	ev["activity_id"], ev["type_uid"] = activity, class*100+activity
	ev["severity_id"] = severityOf(b)
	ev["status_id"] = statusSuccess
	if b.Outcome == pasban.Denied {
		ev["status_id"] = statusFailure
	}
	ev["metadata"] = metadata
	actor := map[string]any{}
	if r.Actor != "" {
		actor["user"] = map[string]any{"uid": r.Actor, "groups": []any{map[string]any{"name": string(b.Who.Role)}}}
	}
	if len(r.Policies) > 0 {
		var auths []any
		for _, id := range r.Policies {
			auths = append(auths, map[string]any{"decision": string(b.Outcome), "policy": map[string]any{"uid": id}})
		}
		actor["authorizations"] = auths
	}
	if len(actor) > 0 {
		ev["actor"] = actor
	}
	if r.IP != "" {
		ev["src_endpoint"] = map[string]any{"ip": r.IP}
	}
	if r.Method != "" {
		request := map[string]any{"http_method": r.Method, "user_agent": ev["UserAgent"]}
		address := map[string]any{"hostname": r.Host}
		if path, ok := ev["Path"]; ok {
			address["path"] = path
		}
		request["url"] = address
		ev["http_request"] = request
	}
	if r.Status != 0 {
		ev["http_response"] = map[string]any{"code": r.Status}
	}
	addClass(ev, class, f)
}

// addClass adds what the class asks for beyond the common attributes.
func addClass(ev pasban.Event, class int, f pasban.Fact) {
	b, r := f.Body, f.Restricted
	switch class {
	case classHTTPActivity, classWebResources:
		ev["metadata"].(map[string]any)["profiles"] = []any{"security_control"}
		ev["action_id"], ev["disposition_id"] = actionAllowed, dispositionAllowed
		if b.Outcome == pasban.Denied {
			ev["action_id"], ev["disposition_id"] = actionDenied, dispositionBlocked
		}
		if class == classWebResources {
			resource := map[string]any{"type": b.Service, "name": ev["Resource"]}
			if f.Subject.ID != "" {
				resource["uid"] = string(f.Subject.ID)
			}
			ev["web_resources"] = []any{resource}
		}
	case classAuthentication:
		ev["user"] = map[string]any{"uid": r.Actor}
		ev["is_mfa"] = true
		ev["auth_protocol"] = "WebAuthn"
	case classAccountChange, classUserAccess:
		ev["user"] = map[string]any{"uid": r.More["target"]}
		if class == classUserAccess {
			ev["privileges"] = []any{r.More["role"]}
		}
	case classEntityManagement:
		ev["entity"] = map[string]any{"name": ev["Resource"], "type": b.Action}
	case classDetectionFinding:
		ev["finding_info"] = map[string]any{"uid": b.ID, "title": b.Action}
	}
}

// classOf returns the OCSF class and activity of a fact.
func classOf(b pasban.Body, r pasban.Restricted) (class, activity int) {
	switch b.Kind {
	case pasban.KindBlock:
		methods := map[string]int{"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8}
		if id, ok := methods[r.Method]; ok {
			return classHTTPActivity, id
		}
		return classHTTPActivity, activityOther
	case pasban.KindSignin:
		if strings.Contains(b.Action, "out") {
			return classAuthentication, 2
		}
		return classAuthentication, 1
	case pasban.KindLook, pasban.KindChange, pasban.KindDecision, pasban.KindOpening:
		verbs := map[string]int{"create": 1, "view": 2, "change": 3, "update": 3, "delete": 4, "search": 5, "export": 7}
		if id, ok := verbs[b.Action]; ok {
			return classWebResources, id
		}
		if b.Kind == pasban.KindChange {
			return classWebResources, 3
		}
		return classWebResources, 2
	case pasban.KindAlarm:
		return classDetectionFinding, 1
	}
	return adminClass(b.Action)
}

func severityOf(b pasban.Body) int {
	switch {
	case b.Kind == pasban.KindAlarm:
		return severityHigh
	case b.Mode == pasban.ModeEmergency:
		return severityMedium
	case b.Kind == pasban.KindBlock || b.Kind == pasban.KindDecision:
		return severityMedium
	case b.Outcome == pasban.Denied:
		return severityLow
	}
	return severityInformational
}

// adminClass sorts admin acts: about people, about what they may do, about the rest.
func adminClass(action string) (class, activity int) {
	switch action {
	case "person.add":
		return classAccountChange, 1
	case "person.enable":
		return classAccountChange, 2
	case "person.disable":
		return classAccountChange, 5
	case "passkey.add":
		return classAccountChange, 10 // MFA Factor Enable
	case "passkey.remove":
		return classAccountChange, 11
	case "person.role":
		return classUserAccess, 1
	}
	if strings.HasPrefix(action, "person.") {
		return classAccountChange, activityOther
	}
	if strings.HasSuffix(action, "shred") {
		return classEntityManagement, 4
	}
	return classEntityManagement, 3
}
