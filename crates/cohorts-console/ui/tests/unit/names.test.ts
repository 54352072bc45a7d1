// The order of suggested names.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nearestFirst } from '../../src/model/names';

const sorted = (list: string[], text: string) => nearestFirst(list, text, (name) => name);
const LIST = ['$groupidentify', '$pageview', 'Page left', 'invoice paid', 'purchase'];

test('names of the project come before those with $, and names that begin with the text come first', () => {
  const cases: [string, string[]][] = [
    ['', ['Page left', 'invoice paid', 'purchase', '$groupidentify', '$pageview']],
    ['p', ['Page left', 'purchase', 'invoice paid', '$groupidentify', '$pageview']],
    ['$p', ['$pageview', 'Page left', 'invoice paid', 'purchase', '$groupidentify']],
  ];
  for (const [text, expected] of cases) assert.deepEqual(sorted(LIST, text), expected, text);
});

test('the order changes no name, and is the same a second time', () => {
  fc.assert(
    fc.property(fc.array(fc.string()), fc.string(), (list, text) => {
      const once = sorted(list, text);
      assert.deepEqual([...once].sort(), [...list].sort());
      assert.deepEqual(sorted(once, text), once);
    }),
  );
});
