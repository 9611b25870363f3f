package page

// said are the errors that people meet who did nothing odd, by their words: the
// page tells them in the visitor's language. The values are below "error" among
// its messages.
var said = map[string]string{
	"the request looks like an attack":                    "said.attack",
	"too many requests from your address":                 "said.flood",
	"too many attempts from here":                         "said.attempts",
	"the request is too large":                            "said.too_large",
	"the form is too large":                               "said.too_large",
	"the request is larger than a rule of the WAF allows": "said.too_large",
	"the request did not arrive whole":                    "said.broken",
	"the request did not arrive in time":                  "said.broken",
	"the form did not arrive whole":                       "said.broken",
	"the request did not come from this site":             "said.elsewhere",
	"the form cannot be read":                             "said.form",
	"this page is for citizens":                           "said.citizens",
	"this page is not for your role":                      "said.role",
	"this page is for officers and supervisors":           "said.role",
	"this is for analysts":                                "said.role",
	"this link does not work":                             "said.link",
	"there is no such page":                               "not_found",
	"there is nothing at this address":                    "not_found",
	"you have no such application":                        "said.no_application",
	"there is no receipt of that number for you":          "said.no_receipt",
}

// errorView is the error page's Data in a language.
func (p *Pages) errorView(lang string, pr Problem) ErrorView {
	v, key := ErrorView{Status: pr.Status, Detail: pr.Detail, Hint: pr.Hint}, "error."+pr.Kind
	if name := said[pr.Detail]; name != "" {
		key, v.Detail, v.Hint = "error."+name, "", ""
	}
	v.Title, v.Text = p.T(lang, key+".title"), p.T(lang, key+".text")
	return v
}
