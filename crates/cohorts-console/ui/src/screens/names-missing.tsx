// Says once on a screen that the project has more names than the service stores.

import { isLimited } from '../state/suggestions';

export function NamesMissing() {
  return (
    <p class="faint" role="status">
      {isLimited() ? 'This project has more names of events and properties than the service stores. You can also type a name that is not suggested.' : ''}
    </p>
  );
}
