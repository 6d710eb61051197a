// What `helm template` does, for a chart without dependencies, from the parts that Helm itself is made of and Debian has:
// Go's templates, sprig, sigs.k8s.io/yaml and gojsonschema. Prints the manifests, and on standard error the notes; or
// fails with the reason.
//
//	template CHART RELEASE NAMESPACE VALUES.yaml
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"github.com/xeipuuv/gojsonschema"
	"sigs.k8s.io/yaml"
)

type mapping = map[string]interface{}

func main() {
	if len(os.Args) != 5 {
		fail(errors.New("usage: template CHART RELEASE NAMESPACE VALUES.yaml"))
	}
	chart, release, namespace := os.Args[1], os.Args[2], os.Args[3]
	values := merged(readYAML(filepath.Join(chart, "values.yaml")), readYAML(os.Args[4]))
	checkSchema(chart, values)
	metadata := mapping{}
	for key, value := range readYAML(filepath.Join(chart, "Chart.yaml")) {
		// Helm has them as fields of a struct: appVersion is .Chart.AppVersion.
		metadata[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := mapping{
		"Values":  values,
		"Chart":   metadata,
		"Release": mapping{"Name": release, "Namespace": namespace, "Service": "Helm"},
		"Files":   files{chart},
	}
	root := parsed(chart)
	for _, name := range templateNames(chart) {
		if strings.HasPrefix(filepath.Base(name), "_") {
			continue
		}
		out := rendered(root, name, data)
		if name == "templates/NOTES.txt" {
			fmt.Fprint(os.Stderr, out)
		} else if strings.TrimSpace(out) != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, out)
		}
	}
}

// Over the chart's values lie the user's; null takes a key away.
func merged(below, above mapping) mapping {
	out := mapping{}
	for key, value := range below {
		out[key] = value
	}
	for key, value := range above {
		inner, isMapping := value.(mapping)
		old, wasMapping := out[key].(mapping)
		switch {
		case value == nil:
			delete(out, key)
		case isMapping && wasMapping:
			out[key] = merged(old, inner)
		default:
			out[key] = value
		}
	}
	return out
}

func checkSchema(chart string, values mapping) {
	schema := gojsonschema.NewReferenceLoader("file://" + filepath.Join(chart, "values.schema.json"))
	result, err := gojsonschema.Validate(schema, gojsonschema.NewGoLoader(values))
	if err != nil {
		fail(err)
	}
	for _, problem := range result.Errors() {
		fmt.Fprintf(os.Stderr, "values: %s\n", problem)
	}
	if !result.Valid() {
		os.Exit(1)
	}
}

func parsed(chart string) *template.Template {
	root := template.New("chart")
	functions := sprig.TxtFuncMap()
	// Helm takes these away, and adds those below.
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	functions["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	functions["fromYaml"] = func(text string) (mapping, error) {
		value := mapping{}
		return value, yaml.Unmarshal([]byte(text), &value)
	}
	functions["fromYamlArray"] = func(text string) ([]interface{}, error) {
		value := []interface{}{}
		return value, yaml.Unmarshal([]byte(text), &value)
	}
	root.Funcs(functions)
	for _, name := range templateNames(chart) {
		if _, err := root.New(name).Parse(string(read(filepath.Join(chart, name)))); err != nil {
			fail(err)
		}
	}
	return root
}

func rendered(root *template.Template, name string, data mapping) string {
	var out bytes.Buffer
	if err := root.ExecuteTemplate(&out, name, data); err != nil {
		fail(err)
	}
	// Missing values print as this, which Helm makes empty; here it is a mistake.
	if strings.Contains(out.String(), "<no value>") {
		fail(fmt.Errorf("%s: a value is missing", name))
	}
	return out.String()
}

func templateNames(chart string) []string {
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		fail(err)
	}
	names := []string{}
	for _, path := range paths {
		names = append(names, "templates/"+filepath.Base(path))
	}
	sort.Strings(names)
	return names
}

type files struct{ chart string }

func (f files) Get(name string) string { return string(read(filepath.Join(f.chart, name))) }

func readYAML(path string) mapping {
	value := mapping{}
	if err := yaml.UnmarshalStrict(read(path), &value); err != nil {
		fail(fmt.Errorf("%s: %w", path, err))
	}
	return value
}

func read(path string) []byte {
	content, err := os.ReadFile(path)
	if err != nil {
		fail(err)
	}
	return content
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
