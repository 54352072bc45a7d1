// The start of the page. The code of a sign-in leaves the address first.

import { firstCode, onCode } from './state/code';
import { render } from 'preact';
import { App } from './app';
import { notify } from './parts/dialog';
import { followLinks, place } from './state/router';
import { resume } from './state/session';

const start = async (code: string | undefined) => {
  const isUsed = await resume(place.value.project, code);
  if (code !== undefined && !isUsed) notify('This tab is signed in already, so the code was not used. To use it, sign out first.');
};

document.addEventListener('click', followLinks);
onCode((code) => void start(code));
void start(firstCode);

const root = document.getElementById('console');
if (root) render(<App />, root);
