package registry

import (
	_ "embed"

	"pasban/internal/config"
)

// serviceSource is the file that declares Service: its comments are the
// descriptions of the schema.
//
//go:embed service.go
var serviceSource string

// ServiceSchemaID names the schema of service files.
const ServiceSchemaID = "pasban.service.v1"

// ServiceSchema returns the JSON Schema (draft 2020-12) of service files. It is
// committed as docs/schemas/service.v1.schema.json.
func ServiceSchema() []byte {
	return config.SchemaOf(Service{}, ServiceSchemaID, "Declaration of a service of a Pasban node", serviceSource)
}
