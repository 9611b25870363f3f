package page

// said are the errors that people meet who did nothing odd, by their words: the
// page tells them in the visitor's language, with the messages error.said.
var said = map[string]string{
	"the request looks like an attack":                    "attack",
	"too many requests from your address":                 "flood",
	"too many attempts from here":                         "attempts",
	"the request is too large":                            "too_large",
	"the form is too large":                               "too_large",
	"the request is larger than a rule of the WAF allows": "too_large",
	"the request did not arrive whole":                    "broken",
	"the request did not arrive in time":                  "broken",
	"the form did not arrive whole":                       "broken",
	"the request did not come from this site":             "elsewhere",
	"the form cannot be read":                             "form",
	"this page is for citizens":                           "citizens",
	"this page is not for your role":                      "role",
	"this page is for officers and supervisors":           "role",
	"this is for analysts":                                "role",
	"this link does not work":                             "link",
	"there is no such page":                               "no_page",
	"there is nothing at this address":                    "no_page",
	"you have no such application":                        "no_application",
	"there is no receipt of that number for you":          "no_receipt",
}

// errorView is the error page's Data in a language.
func (p *Pages) errorView(lang string, pr Problem) ErrorView {
	v, key := ErrorView{Status: pr.Status, Detail: pr.Detail, Hint: pr.Hint}, "error."+pr.Kind
	if name := said[pr.Detail]; name != "" {
		key, v.Detail, v.Hint = "error.said."+name, "", ""
	}
	v.Title, v.Text = p.T(lang, key+".title"), p.T(lang, key+".text")
	return v
}
