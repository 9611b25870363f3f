package detect

// LoadText reads the rules in a text that is no file, such as a draft. name is
// where problems say that they are. The error is as for [Load].
func LoadText(name string, text []byte, options ...Option) (*Engine, error) {
	return load([]source{{name, text}}, nil, options)
}
