package api

import (
	"net/http"

	"pasban"
	"pasban/internal/page"
	"pasban/internal/registry"
)

// object is a JSON object of the description.
type object = map[string]any

func (a *API) openAPI(w http.ResponseWriter, r *http.Request) error {
	a.o.Pages.JSON(w, r, http.StatusOK, "", a.OpenAPI())
	return nil
}

// OpenAPI describes the API (OpenAPI 3.1.0) of exactly the services that are
// declared at the moment: one set of paths and one schema of answers for each.
func (a *API) OpenAPI() map[string]any {
	paths := object{
		"/api/v1/services": object{"get": operation("listServices", "Declared services", nil, nil,
			response("200", "The services", ref("Services"), nil))},
		"/api/v1/services/{service}": object{"get": operation("getService", "One declared service", nil, []any{
			parameter("service", "path", true, object{"type": "string"}, "")}, response("200", "The service", ref("Service"), nil))},
	}
	schemas := commonSchemas()
	for _, s := range a.o.Registry.Services() {
		name := camel(s.ID)
		schemas[name+"Values"] = valuesSchema(s, true)
		schemas[name+"Application"] = closed(object{"values": ref(name + "Values")}, "values")
		schemas[name+"Record"] = recordSchema(s)
		describe(paths, s, name)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "Services of " + a.o.Agency, "version": "1",
			"description": "Every look at a citizen's data is decided by policy and recorded in a public ledger before it is answered. " +
				"Officers say the purpose and the case with each request or in their session; the answer carries one promise of the ledger per citizen."},
		"servers":  []any{object{"url": "/"}},
		"security": []any{object{"session": []string{}}},
		"paths":    paths,
		"components": object{
			"securitySchemes": object{"session": object{"type": "apiKey", "in": "cookie", "name": page.SessionCookie,
				"description": "Set by signing in with a passkey at /pasban/signin. Requests that change something also send Origin or Sec-Fetch-Site."}},
			"schemas": schemas,
			"headers": object{pasban.PromiseHeader: object{"description": "The ledger's signed promise, one line per citizen: <index>; leaf=<base64url>; sig=<base64url>. It is exchanged for a receipt at /ledger/receipt/<index>.",
				"schema": object{"type": "string"}}},
		},
	}
}

// describe adds the paths of one service.
func describe(paths object, s *registry.Service, name string) {
	base := "/api/v1/services/" + s.ID
	codes := s.PurposeCodes()
	why := []any{
		parameter(registry.PurposeHeader, "header", false, object{"type": "string", "enum": codes}, "Why. Needed of officers unless their session says it."),
		parameter(registry.CaseHeader, "header", false, object{"type": "string", "maxLength": 128}, "The case number. Needed of officers unless their session says it."),
		parameter(registry.HideHeader, "header", false, object{"type": "string"}, "The date at which the citizen is told of the look (2027-05-01, or RFC 3339), where a policy permits that they are told later. It cannot be moved."),
	}
	id := parameter("id", "path", true, object{"type": "string", "pattern": "^" + s.Prefix + "-[0-9]{4}-[0-9A-Z]{5}-[0-9A-Z]{5}$"}, "The reference number")
	promised := object{pasban.PromiseHeader: object{"$ref": "#/components/headers/" + pasban.PromiseHeader}}
	created := object{pasban.PromiseHeader: promised[pasban.PromiseHeader],
		"Location": object{"description": "The application's address", "schema": object{"type": "string"}}}
	var lookups, steps, states, fields []string
	for _, f := range s.Fields {
		fields = append(fields, f.Name)
		if f.Lookup {
			lookups = append(lookups, f.Name)
		}
	}
	for _, st := range s.Workflow.Steps {
		steps = append(steps, st.ID)
	}
	for _, st := range s.Workflow.States {
		states = append(states, st.ID)
	}
	paths[base+"/records"] = object{
		"get": operation("list"+name, "Officers: the work list. Citizens: their own. Without anybody's data.", nil, []any{
			parameter("state", "query", false, object{"type": "string", "enum": states}, ""),
			parameter("limit", "query", false, object{"type": "integer", "minimum": 1, "maximum": 200, "default": pageSize}, ""),
			parameter("after", "query", false, object{"type": "string"}, "next of the list before"),
		}, response("200", "The list", ref("Records"), nil)),
		"post": operation("apply"+name, "Hand in an application", ref(name+"Application"), why,
			response("201", "Received: the reference number", ref("Summary"), created)),
	}
	if lookups != nil {
		paths[base+"/search"] = object{"post": operation("search"+name, "Find applications by an answer, without opening any",
			closed(object{"field": object{"type": "string", "enum": lookups}, "value": object{"type": "string"}}, "field", "value"), why,
			response("200", "Those found", ref("Records"), promised))}
	}
	paths[base+"/records/{id}"] = object{"get": operation("open"+name, "Open an application: every look is recorded, and its citizens see it", nil,
		append([]any{id, object{"name": "fields", "in": "query", "required": false, "explode": false, "style": "form",
			"description": "Only these answers. Sensitive ones are opened only if they are named here.",
			"schema":      object{"type": "array", "items": object{"type": "string", "enum": fields}}}}, why...),
		response("200", "The application", ref(name+"Record"), promised))}
	paths[base+"/records/{id}/steps"] = object{"post": operation("advance"+name, "Take a step of the workflow",
		closed(object{"step": object{"type": "string", "enum": steps}}, "step"), append([]any{id}, why...),
		response("200", "Where it stands now", ref("Summary"), promised))}
}

func operation(id, summary string, body object, parameters []any, responses object) object {
	problem := object{"description": "A problem document (RFC 9457)", "content": object{"application/problem+json": object{"schema": ref("Problem")}}}
	responses["default"] = problem
	out := object{"operationId": id, "summary": summary, "responses": responses}
	if parameters != nil {
		out["parameters"] = parameters
	}
	if body != nil {
		out["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": body}}}
	}
	return out
}

func parameter(name, in string, required bool, schema object, description string) object {
	out := object{"name": name, "in": in, "required": required, "schema": schema}
	if description != "" {
		out["description"] = description
	}
	return out
}

func response(status, description string, schema, headers object) object {
	out := object{"description": description, "content": object{"application/json": object{"schema": schema}}}
	if headers != nil {
		out["headers"] = headers
	}
	return object{status: out}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// closed is an object with these members and no others.
func closed(properties object, required ...string) object {
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		out["required"] = required
	}
	return out
}

func list(of object) object { return object{"type": "array", "items": of} }

// valuesSchema describes the answers of a service: as they are sent, or as
// they are given out (where not all of them may be).
func valuesSchema(s *registry.Service, sent bool) object {
	properties, required := object{}, []string{}
	for _, f := range s.Fields {
		p := object{"type": "string", "title": f.Label.En, "maxLength": f.Longest(), "x-class": string(f.Class)}
		if f.Hint != nil {
			p["description"] = f.Hint.En
		}
		if f.Pattern != "" {
			p["pattern"] = "^(?:" + f.Pattern + ")$"
		}
		switch f.Kind {
		case "choice":
			var codes []string
			for _, c := range f.Choices {
				codes = append(codes, c.Code)
			}
			p["enum"] = codes
		case "date", "email":
			p["format"] = f.Kind
		}
		properties[f.Name] = p
		if f.Required {
			required = append(required, f.Name)
		}
	}
	if !sent {
		return closed(properties)
	}
	return closed(properties, required...)
}

func recordSchema(s *registry.Service) object {
	return object{"allOf": []any{ref("Summary"), object{"type": "object",
		"properties": object{
			"values":  valuesSchema(s, false),
			"closed":  object{"type": "array", "items": object{"type": "string"}, "description": "Answers that are there and were not opened"},
			"history": list(closed(object{"step": text(), "state": text(), "role": text(), "at": moment()}, "state", "role", "at")),
			"steps":   list(closed(object{"id": text(), "name": ref("Text"), "to": text()}, "id", "name", "to")),
		},
		"required": []string{"values", "closed", "history", "steps"}}}}
}

func text() object { return object{"type": "string"} }

func moment() object { return object{"type": "string", "format": "date-time"} }

// commonSchemas describes what is the same for every service.
func commonSchemas() object {
	return object{
		"Text":  closed(object{"en": text(), "ur": text()}, "en", "ur"),
		"State": closed(object{"id": text(), "name": ref("Text"), "final": object{"type": "boolean"}}, "id", "name", "final"),
		"Summary": object{"type": "object", "properties": object{"id": text(), "service": text(), "state": ref("State"),
			"public":  object{"type": "object", "additionalProperties": text(), "description": "Answers that are public anyway"},
			"created": moment(), "updated": moment(), "version": object{"type": "integer"}},
			"required": []string{"id", "service", "state", "public", "created", "updated", "version"}},
		"Records": closed(object{"records": list(ref("Summary")), "next": text()}, "records"),
		"Code":    closed(object{"code": text(), "name": ref("Text")}, "code", "name"),
		"Field": closed(object{"name": text(), "label": ref("Text"), "hint": ref("Text"), "kind": text(),
			"class": object{"type": "string", "enum": []registry.Class{registry.Public, registry.Personal, registry.Sensitive}}, "subject": object{"type": "boolean"}, "of": text(),
			"required": object{"type": "boolean"}, "lookup": object{"type": "boolean"}, "pattern": text(), "max": object{"type": "integer"},
			"choices": list(ref("Code"))}, "name", "label", "kind", "class", "max"),
		"Service": closed(object{"id": text(), "name": ref("Text"), "summary": ref("Text"), "basis": ref("Text"), "days": object{"type": "integer"},
			"apply": list(text()), "purposes": list(ref("Code")), "fields": list(ref("Field")), "states": list(ref("State"))},
			"id", "name", "summary", "basis", "apply", "purposes", "fields", "states"),
		"Services": closed(object{"services": list(ref("Service"))}, "services"),
		"Problem": object{"type": "object", "properties": object{"type": text(), "title": text(), "status": object{"type": "integer"},
			"detail": text(), "hint": text(), "instance": text(), "kind": text(),
			"errors": list(closed(object{"field": text(), "detail": text(), "hint": text()}, "field", "detail"))},
			"required": []string{"type", "title", "status", "kind"}},
	}
}

// camel writes land-transfer as LandTransfer.
func camel(id string) string {
	out, up := make([]byte, 0, len(id)), true
	for i := range len(id) {
		switch c := id[i]; {
		case c == '-':
			up = true
		case up && c >= 'a' && c <= 'z':
			out, up = append(out, c-'a'+'A'), false
		default:
			out, up = append(out, c), false
		}
	}
	return string(out)
}
