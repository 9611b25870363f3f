// Package examples holds services, policies and rules to start from. They are
// files first: copy them beside a pasban.yaml and change them. This package
// embeds them as well, so that the demo needs nothing but the binary.
package examples

import "embed"

//go:embed services policies rules
var files embed.FS

// FS returns the folders services, policies and rules.
func FS() embed.FS { return files }
