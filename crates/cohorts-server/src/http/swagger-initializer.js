// Starts Swagger UI. A demo offers its credentials to browsers on the same machine, so each operation can be tried at once.

// Where the credentials of a security scheme are kept, for this tab only. The console keeps its key in the same place.
const KEPT = { personalApiKey: "cohorts.key", projectTokenInHeader: "cohorts.token" };
// The operations of these tags are folded at first.
const FOLDED = ["capture", "console"];
// The paragraph of the description from which on it is folded.
const DETAILS = "**Pages.**";

// An empty field of a form is sent only if its box is ticked. By default Swagger UI sends all of them.
const OmitEmptyFields = () => ({
  wrapComponents: {
    ParameterIncludeEmpty: (Original, { React }) => (props) => {
      const isIncludedOptions = { ...props.isIncludedOptions, defaultValue: false };
      return React.createElement(Original, { ...props, isIncludedOptions });
    },
  },
});

const KeepForTab = () => ({
  statePlugins: {
    auth: {
      wrapActions: {
        authorize: (original) => (schemes) => {
          for (const [scheme, { value }] of Object.entries(schemes)) {
            if (KEPT[scheme]) sessionStorage.setItem(KEPT[scheme], value);
          }
          return original(schemes);
        },
        logout: (original) => (schemes) => {
          for (const scheme of schemes) {
            if (KEPT[scheme]) sessionStorage.removeItem(KEPT[scheme]);
          }
          return original(schemes);
        },
      },
    },
  },
});

// The filter finds words in paths, names and summaries. By default it finds only tags.
const FilterOperations = () => ({
  fn: {
    opsFilter: (tags, phrase) => {
      const words = phrase.toLowerCase().split(/\s+/);
      const contains = (tag) => (operation) => {
        const { summary = "", operationId = "" } = operation.get("operation").toJS();
        const text = [tag, operation.get("path"), operationId, summary].join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      };
      return tags
        .map((entry, tag) => entry.update("operations", (operations) => operations.filter(contains(tag))))
        .filter((entry) => entry.get("operations").size > 0);
    },
  },
});

const folded = (description) => {
  const at = description.indexOf(DETAILS);
  if (at < 0) return description;
  const summary = "Pages, paths, bodies, formats, headers, errors and times";
  return `${description.slice(0, at)}<details><summary>${summary}</summary>\n\n${description.slice(at)}\n\n</details>`;
};

const FoldDescription = () => ({
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (original) => (document) => {
          const info = document?.info;
          const description = info?.description;
          return original(description ? { ...document, info: { ...info, description: folded(description) } } : document);
        },
      },
    },
  },
});

const credentials = async () => {
  const offered = await (await fetch("credentials.json")).json();
  const kept = Object.entries(KEPT).map(([scheme, name]) => [scheme, sessionStorage.getItem(name)]);
  return { ...offered, ...Object.fromEntries(kept.filter(([, value]) => value)) };
};

window.onload = async () => {
  // Earlier versions of the page kept keys in storage that outlives the tab.
  localStorage.removeItem("authorized");
  const known = await credentials();
  window.ui = SwaggerUIBundle({
    dom_id: "#swagger-ui",
    urls: [
      { name: "Cohorts", url: "/api/schema/" },
      { name: "Operation of the service", url: "/api/schema/service/" },
    ],
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    docExpansion: "none",
    filter: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    plugins: [SwaggerUIBundle.plugins.DownloadUrl, OmitEmptyFields, KeepForTab, FilterOperations, FoldDescription],
    layout: "StandaloneLayout",
    showExtensions: true,
    tryItOutEnabled: true,
    onComplete: () => {
      for (const [scheme, value] of Object.entries(known)) {
        window.ui.preauthorizeApiKey(scheme, value);
      }
      const tags = window.ui.specSelectors.taggedOperations().keySeq().toJS();
      for (const tag of tags.filter((tag) => !FOLDED.includes(tag))) {
        window.ui.layoutActions.show(["operations-tag", tag], true);
      }
    },
  });
};

// The links at the top of the page lead to operations.
window.addEventListener("hashchange", () => window.ui?.layoutActions.parseDeepLinkHash(location.hash));
