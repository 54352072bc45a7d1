// Starts Swagger UI. A demo offers its credentials to browsers on the same machine, so each operation can be tried at once.
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
    plugins: [SwaggerUIBundle.plugins.DownloadUrl],
    layout: "StandaloneLayout",
    onComplete: () => {
      for (const [scheme, value] of Object.entries(credentials)) {
        window.ui.preauthorizeApiKey(scheme, value);
      }
    },
  });
};
