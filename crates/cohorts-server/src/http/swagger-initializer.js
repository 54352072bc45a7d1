// Starts Swagger UI. A demo offers its credentials to browsers on the same machine, so each operation can be tried at once.

// An empty field of a form is sent only if its box is ticked. By default Swagger UI sends all of them.
const OmitEmptyFields = () => ({
  wrapComponents: {
    ParameterIncludeEmpty: (Original, { React }) => (props) => {
      const isIncludedOptions = { ...props.isIncludedOptions, defaultValue: false };
      return React.createElement(Original, { ...props, isIncludedOptions });
    },
  },
});

window.onload = async () => {
  const credentials = await (await fetch("credentials.json")).json();
  window.ui = SwaggerUIBundle({
    dom_id: "#swagger-ui",
    urls: [
      { name: "Cohorts", url: "/api/schema/" },
      { name: "Operation of the service", url: "/api/schema/service/" },
    ],
    deepLinking: true,
    persistAuthorization: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    plugins: [SwaggerUIBundle.plugins.DownloadUrl, OmitEmptyFields],
    layout: "StandaloneLayout",
    onComplete: () => {
      for (const [scheme, value] of Object.entries(credentials)) {
        window.ui.preauthorizeApiKey(scheme, value);
      }
    },
  });
};
