package httpapi

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
)

// document describes all endpoints that there can be.
//
//go:embed openapi.json
var document []byte

// openAPI is GET /api-docs/openapi.json: the description of those endpoints that are there. Of endpoints that others have added it knows nothing.
func (a *API) openAPI(w http.ResponseWriter, r *http.Request) {
	var doc struct {
		OpenAPI    string                                `json:"openapi"`
		Info       json.RawMessage                       `json:"info"`
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components json.RawMessage                       `json:"components"`
		Security   json.RawMessage                       `json:"security"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		problem(w, http.StatusInternalServerError, "%v", err)
		return
	}
	for path, operations := range doc.Paths {
		for method := range operations {
			if a.routes[path][strings.ToUpper(method)] == nil {
				delete(operations, method)
			}
		}
		if len(operations) == 0 {
			delete(doc.Paths, path)
		}
	}
	b, err := json.Marshal(&doc)
	if err != nil {
		problem(w, http.StatusInternalServerError, "%v", err)
		return
	}
	writeJSON(w, http.StatusOK, b)
}
