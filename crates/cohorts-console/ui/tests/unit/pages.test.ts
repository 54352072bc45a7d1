// Pages of a list with cursors.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cursorOf } from '../../src/model/pages';

test('a link to a page has a cursor, whatever its host and its other parameters', () => {
  assert.equal(cursorOf('https://proxy.example.org/api/projects/1/events/?person_id=a&cursor=00ff&limit=2'), '00ff');
  assert.equal(cursorOf('/events/?cursor=a%2Bb'), 'a+b');
  for (const last of [null, undefined, '', '/events/', '/events/?cursor=', '/events/?limit=2']) {
    assert.equal(cursorOf(last), undefined);
  }
});
