// A button with a list of actions or choices. It closes with Escape, with a press elsewhere, and after an action.

import type { ComponentChildren } from 'preact';
import { useRef } from 'preact/hooks';

interface Properties {
  /** What the button shows. */
  face: ComponentChildren;
  /** The name of a button without words. */
  label?: string;
  isQuiet?: boolean;
  isDisabled?: boolean;
  /** Whether the list begins at the left edge of the button; otherwise it ends at the right edge. */
  isLeft?: boolean;
  /** Whether the list stays open after a choice. */
  isChoice?: boolean;
  children: ComponentChildren;
}

export function Menu({ face, label, isQuiet = false, isDisabled = false, isLeft = false, isChoice = false, children }: Properties) {
  const menu = useRef<HTMLDetailsElement>(null);
  const close = () => {
    if (menu.current) menu.current.open = false;
  };
  const closeToButton = () => {
    close();
    menu.current?.querySelector('summary')?.focus();
  };
  return (
    <details
      class="menu"
      ref={menu}
      onKeyDown={(event) => event.key === 'Escape' && menu.current?.open && closeToButton()}
      onFocusOut={(event) => menu.current?.contains(event.relatedTarget as Node | null) || close()}
    >
      <summary class={isQuiet ? 'button quiet square' : 'button'} aria-label={label} aria-disabled={isDisabled || undefined} onClick={(event) => isDisabled && event.preventDefault()}>
        {face}
      </summary>
      {/* A press between the items keeps the focus in the list. */}
      <div
        class={`menu-items${isLeft ? ' left' : ''}${isChoice ? ' checks' : ''}`}
        tabIndex={-1}
        onClick={(event) => !isChoice && (event.target as Element).closest('a, button') && closeToButton()}
      >
        {children}
      </div>
    </details>
  );
}
