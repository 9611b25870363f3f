package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is one key that a struct takes in YAML, read from its tags.
type field struct {
	name     string
	index    []int
	typ      reflect.Type
	goName   string
	required bool
	short    bool   // a text in the place of the struct is this field's value
	preset   string // the default tag
	rules    fieldRules
}

// fieldsOf lists the keys of a struct, those of `yaml:",inline"` structs
// included. A malformed tag is a mistake of the programmer and panics.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, given := sf.Tag.Lookup("yaml")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case sf.Type == posType && sf.IsExported():
			out = append(out, field{index: sf.Index, typ: posType})
			continue
		case options == "inline":
			for _, f := range fieldsOf(sf.Type) {
				f.index = append([]int{i}, f.index...)
				out = append(out, f)
			}
			continue
		case !sf.IsExported() || name == "-":
			continue
		case !given || name == "":
			name = strings.ToLower(sf.Name)
		}
		f := field{name: name, index: sf.Index, typ: sf.Type, goName: sf.Name,
			required: sf.Tag.Get("required") == "true", short: sf.Tag.Get("short") == "true", preset: sf.Tag.Get("default")}
		if e := sf.Tag.Get("enum"); e != "" {
			f.rules.enum = strings.Split(e, "|")
		}
		f.rules.min, f.rules.max = bound(sf, "min"), bound(sf, "max")
		out = append(out, f)
	}
	return out
}

func bound(sf reflect.StructField, tag string) *int64 {
	text, ok := sf.Tag.Lookup(tag)
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("config: field %s: tag %s: %v", sf.Name, tag, err))
	}
	return &n
}

// setDefaults gives the zero fields of a struct the values of their default
// tags, in structs within it too.
func setDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct || v.Type() == posType {
		return
	}
	for _, f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.index)
		if f.preset == "" || !fv.IsZero() {
			setDefaults(fv)
			continue
		}
		switch {
		case fv.Type() == durationType:
			d, err := time.ParseDuration(f.preset)
			must(f, err)
			fv.SetInt(int64(d))
		case fv.Kind() == reflect.String:
			fv.SetString(f.preset)
		case fv.Kind() == reflect.Bool:
			fv.SetBool(f.preset == "true")
		case fv.CanInt():
			n, err := strconv.ParseInt(f.preset, 10, 64)
			must(f, err)
			fv.SetInt(n)
		case fv.CanFloat():
			n, err := strconv.ParseFloat(f.preset, 64)
			must(f, err)
			fv.SetFloat(n)
		case fv.Kind() == reflect.Slice && fv.Type().Elem().Kind() == reflect.String:
			fv.Set(reflect.ValueOf(strings.Split(f.preset, "|")).Convert(fv.Type()))
		default:
			panic(fmt.Sprintf("config: field %s: no defaults for %s", f.goName, fv.Type()))
		}
	}
}

func must(f field, err error) {
	if err != nil {
		panic(fmt.Sprintf("config: field %s: default: %v", f.goName, err))
	}
}
