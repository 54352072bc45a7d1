// The start of the page.

import { render } from 'preact';
import { App } from './app';
import { followLinks, place } from './state/router';
import { resume } from './state/session';

document.addEventListener('click', followLinks);
void resume(place.value.project);

const root = document.getElementById('console');
if (root) render(<App />, root);
