package flood

// Priority says who goes first when there is not room for everybody. Higher
// goes first.
type Priority uint8

const (
	Stranger  Priority = iota // nothing is known of the client
	Visitor                   // holds an earned pass
	SignedIn                  // has a session
	Essential                 // a session in the middle of an application, or an essential service
)

// String returns the priority's name in metrics and facts.
func (p Priority) String() string {
	switch p {
	case Stranger:
		return "stranger"
	case Visitor:
		return "visitor"
	case SignedIn:
		return "signed-in"
	}
	return "essential"
}
